//! The rigs that ship with kireji.

/// A rig that ships with kireji.
#[derive(Clone, Copy, Debug)]
pub struct Shipped {
    /// Its name.
    pub name: &'static str,
    /// Its description in TOML.
    pub text: &'static str,
}

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        &[$(Shipped {
            name: $name,
            text: include_str!(concat!("../../rigs/", $name, ".toml")),
        }),*]
    };
}

/// The rigs that ship with kireji, in the order in which to list them.
pub const SHIPPED: &[Shipped] = shipped![
    "intel",
    "amd",
    "none",
    "iommu-off",
    "no-remap",
    "no-acs",
    "bridge",
    "switch",
    "twins",
    "multifunction",
    "storage",
];
