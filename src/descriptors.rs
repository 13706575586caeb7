//! How many files the system lets this process open, and so how many connections there can be.
//!
//! The start asks for as many as it may have. Where that is too few for what the settings say, there are fewer connections,
//! and the log says so: a shop without a descriptor left can neither accept nor write.

/// What is open besides connections and what requests open: database, listener, log, and what libraries keep.
const OTHERS: u64 = 256;

/// How many connections there can be of those that are wanted, while so many requests may each have a file open.
pub(crate) fn connections(wanted: usize, requests: usize) -> usize {
    match rlimit::increase_nofile_limit(rlimit::INFINITY) {
        Ok(allowed) => {
            let possible = possible(allowed, requests);
            if possible < wanted {
                tracing::warn!(
                    "only {allowed} files may be open at once, so there are {possible} connections at most; \
                     raise the limit (ulimit -Hn, LimitNOFILE) or lower MAX_CONNECTIONS"
                );
            }
            possible.min(wanted)
        }
        Err(error) => {
            tracing::warn!(%error, "the limit of open files is not known");
            wanted
        }
    }
}

/// A quarter of the descriptors at least, however few there are.
fn possible(allowed: u64, requests: usize) -> usize {
    let others = OTHERS.saturating_add(requests as u64);
    let left = allowed.saturating_sub(others).max(allowed / 4).max(1);
    usize::try_from(left).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_connection_has_its_descriptors_too() {
        assert_eq!(possible(65_536, 512), 64_768);
        assert_eq!(possible(1024, 512), 256);
        assert_eq!(possible(256, 512), 64);
        assert_eq!(possible(0, 512), 1);
        assert!(possible(u64::MAX, 512) > 1_000_000);
    }
}
