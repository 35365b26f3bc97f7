//! Bytes that a network namespace received and sent: `/proc/<pid>/net/dev`.

/// Sum of bytes (received, sent) over all interfaces but the loopback; `None` for text of another form.
pub(super) fn parse(text: &str) -> Option<(i64, i64)> {
    let mut lines = text.lines();
    // two lines of headings
    lines.next().filter(|line| line.contains("Receive"))?;
    lines.next().filter(|line| line.contains("bytes"))?;
    let (mut rx, mut tx) = (0_i64, 0_i64);
    for line in lines {
        let (name, columns) = line.split_once(':')?;
        if name.trim() == "lo" {
            continue;
        }
        let mut columns = columns.split_ascii_whitespace();
        let received: i64 = columns.next()?.parse().ok()?;
        let sent: i64 = columns.nth(7)?.parse().ok()?;
        rx = rx.saturating_add(received);
        tx = tx.saturating_add(sent);
    }
    Some((rx, tx))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Inter-|   Receive                                                |  Transmit\n \
        face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n";

    #[test]
    fn all_interfaces_but_the_loopback_count() {
        let text = format!(
            "{HEAD}    lo:    3193      29    0    0    0     0          0         0     3193      29    0    0    0     0       0          0\n\
             \x20 eth0: 83959262    3001    0    0    0     0          0         0   208024    1875    0    0    0     0       0          0\n\
             \x20 eth1:10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n"
        );
        assert_eq!(parse(&text), Some((83_959_272, 208_044)));
    }

    #[test]
    fn no_network_is_zero_and_nonsense_is_nothing() {
        assert_eq!(parse(HEAD), Some((0, 0)));
        assert_eq!(parse(&format!("{HEAD}  eth0: x y\n")), None);
        assert_eq!(parse(""), None);
    }
}
