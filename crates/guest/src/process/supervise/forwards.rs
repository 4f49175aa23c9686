//! The ports of the host that lead to the guest, as QEMU tells of them.

/// Reads the port forwards from the monitor's table (net/slirp.c of QEMU, `slirp_connection_info`
/// of libslirp): protocol, descriptor, host address and port, guest address and port.
pub(super) fn forwards(table: &str) -> Vec<(u16, u16)> {
    let forward = |line: &str| {
        let rest = line.trim().strip_prefix("TCP[HOST_FORWARD]")?;
        let mut words = rest.split_whitespace().skip(2);
        let host = words.next()?.parse().ok()?;
        let guest = words.nth(1)?.parse().ok()?;
        Some((host, guest))
    };
    table.lines().filter_map(forward).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_are_read_from_the_monitors_table() {
        let table = "Hub -1 (net0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  \
            Port RecvQ SendQ\r\n  TCP[HOST_FORWARD]   8       127.0.0.1 41449       10.0.2.15    22 \
            0     0\r\n  TCP[ESTABLISHED]   9       127.0.0.1 41450       10.0.2.15    22 0     0\r\n\
            TCP[HOST_FORWARD]  12  127.0.0.1  8080  10.0.2.15  80  0  0\r\n\
            TCP[HOST_FORWARD]  12  127.0.0.1 99999 10.0.2.15 80\r\n TCP[HOST_FORWARD]\r\n";
        assert_eq!(forwards(table), [(41449, 22), (8080, 80)]);
    }
}
