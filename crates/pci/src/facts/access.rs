//! What this process may use: device nodes, locked memory, the device rules of its control group.

use ::host::{Measured, Sysroot};
use serde::Serialize;

use super::{text, why};

/// Bit of the effective capabilities: limits of locked memory do not apply
/// (include/uapi/linux/capability.h, CAP_IPC_LOCK).
const IPC_LOCK: u32 = 14;
/// Character device of VFIO's containers (include/linux/miscdevice.h, VFIO_MINOR).
const VFIO: (&str, &str) = ("10", "196");

/// What this process may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Access {
    /// `/dev/kvm`.
    pub kvm: Node,
    /// `/dev/vfio/vfio`.
    pub vfio: Node,
    /// `/dev/iommu`.
    pub iommufd: Node,
    /// How much memory may be locked.
    pub locked_memory: Measured<Limit>,
    /// What the control group says of VFIO's nodes.
    pub device_rules: Measured<DeviceRules>,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Node {
    /// There is none.
    Absent,
    /// It is there, and may be read and written or not.
    Present(Measured<bool>),
}

/// How much memory a process may lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// Any amount.
    Unlimited,
    /// So many bytes.
    Bytes(u64),
}

/// What a control group says of VFIO's nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceRules {
    /// They may be used.
    Open,
    /// They may not: the list of this control group has no rule for them.
    Closed {
        /// The file with the list.
        list: String,
    },
}

pub(super) fn read(sysroot: &Sysroot) -> Access {
    let vfio = node(sysroot, "/dev/vfio/vfio");
    Access {
        kvm: node(sysroot, "/dev/kvm"),
        iommufd: node(sysroot, "/dev/iommu"),
        locked_memory: locked_memory(sysroot),
        device_rules: device_rules(sysroot, &vfio),
        vfio,
    }
}

fn node(sysroot: &Sysroot, path: &str) -> Node {
    match sysroot.may_use(path) {
        Ok(may) => Node::Present(may),
        Err(error) if error.is_absent() => Node::Absent,
        Err(error) => Node::Present(Measured::unmeasured(why(&error))),
    }
}

fn locked_memory(sysroot: &Sysroot) -> Measured<Limit> {
    let capabilities = text(sysroot, "/proc/self/status");
    let effective = capabilities.known().and_then(|text| {
        let value = text.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(value.trim(), 16).ok()
    });
    if effective.is_some_and(|bits| bits >> IPC_LOCK & 1 == 1) {
        return Measured::Known(Limit::Unlimited);
    }
    let limits = match text(sysroot, "/proc/self/limits") {
        Measured::Known(limits) => limits,
        Measured::Unmeasured { unmeasured } => return Measured::unmeasured(unmeasured),
    };
    let soft = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"))
        .and_then(|rest| rest.split_whitespace().next());
    match soft {
        Some("unlimited") => Measured::Known(Limit::Unlimited),
        Some(number) if number.parse::<u64>().is_ok() => {
            Measured::Known(Limit::Bytes(number.parse().unwrap_or_default()))
        }
        _ => Measured::unmeasured("/proc/self/limits does not tell the locked memory"),
    }
}

/// The rules of a control group of version 1 can be read; those of version 2 are a program in the
/// kernel, and only using a node shows them.
fn device_rules(sysroot: &Sysroot, vfio: &Node) -> Measured<DeviceRules> {
    if let Node::Present(Measured::Known(true)) = vfio {
        return Measured::Known(DeviceRules::Open);
    }
    let groups = match text(sysroot, "/proc/self/cgroup") {
        Measured::Known(groups) => groups,
        Measured::Unmeasured { unmeasured } => return Measured::unmeasured(unmeasured),
    };
    let own = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        parts.next()?.split(',').any(|name| name == "devices").then(|| parts.next())?
    });
    let Some(own) = own else {
        return Measured::unmeasured("the rules of a control group of version 2 show only in use");
    };
    let list = format!("/sys/fs/cgroup/devices{}/devices.list", own.trim_end_matches('/'));
    match sysroot.text(&list) {
        Ok(rules) if rules.lines().any(opens_vfio) => Measured::Known(DeviceRules::Open),
        Ok(_) => Measured::Known(DeviceRules::Closed { list }),
        Err(error) => Measured::unmeasured(why(&error)),
    }
}

/// Whether a rule such as `c 10:196 rwm` opens VFIO's node
/// (Documentation/admin-guide/cgroup-v1/devices.rst).
fn opens_vfio(rule: &str) -> bool {
    let mut words = rule.split_whitespace();
    let (kind, number, rights) = (words.next(), words.next(), words.next());
    let numbers = number.and_then(|number| number.split_once(':'));
    matches!(kind, Some("a" | "c"))
        && numbers.is_some_and(|(major, minor)| {
            ["*", VFIO.0].contains(&major) && ["*", VFIO.1].contains(&minor)
        })
        && rights.is_some_and(|rights| rights.contains('r') && rights.contains('w'))
}

#[cfg(test)]
mod tests {
    use testkit::tree::Tree;

    use super::*;

    #[test]
    fn locked_memory_is_limited_or_not() {
        let limits = |line: &str| {
            let tree = Tree::new();
            tree.write("/proc/self/limits", format!("Limit Soft Hard\n{line}\n"));
            tree.write("/proc/self/status", "Name:\tx\nCapEff:\t0000000000000000\n");
            locked_memory(&tree.sysroot())
        };
        let line = "Max locked memory         8388608              8388608              bytes";
        assert_eq!(limits(line), Measured::Known(Limit::Bytes(8 << 20)));
        let line = "Max locked memory         unlimited            unlimited            bytes";
        assert_eq!(limits(line), Measured::Known(Limit::Unlimited));
        assert!(limits("Max open files 1 1 files").known().is_none());
        let tree = Tree::new();
        tree.write("/proc/self/status", "CapEff:\t000001ffffffffff\n");
        assert_eq!(locked_memory(&tree.sysroot()), Measured::Known(Limit::Unlimited));
    }

    #[test]
    fn rules_of_control_groups() {
        for (rule, open) in [
            ("a *:* rwm", true),
            ("c 10:196 rw", true),
            ("c 10:* rwm", true),
            ("b 10:196 rwm", false),
            ("c 10:196 m", false),
            ("c 1:3 rwm", false),
            ("", false),
        ] {
            assert_eq!(opens_vfio(rule), open, "{rule}");
        }
        let tree = Tree::new();
        tree.write("/proc/self/cgroup", "5:devices:/box\n0::/\n");
        tree.write("/sys/fs/cgroup/devices/box/devices.list", "c 1:3 rwm\n");
        let closed = device_rules(&tree.sysroot(), &Node::Absent);
        assert!(matches!(closed, Measured::Known(DeviceRules::Closed { .. })));
        tree.write("/proc/self/cgroup", "0::/\n");
        assert!(device_rules(&tree.sysroot(), &Node::Absent).known().is_none());
    }
}
