//! Header maps used again: each owns two pieces of memory that every request would ask the allocator for.

use std::cell::RefCell;

use ::http::HeaderMap;

/// So many are kept by a thread, none for more fields than `FIELDS`.
const KEPT: usize = 8;
const FIELDS: usize = 64;

thread_local! {
    static MAPS: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// What a new map has room for at least: enough for most requests and responses.
const FEW: usize = 6;

/// An empty map with room for at least `fields`.
pub(crate) fn header_map(fields: usize) -> HeaderMap {
    match MAPS.with_borrow_mut(Vec::pop) {
        Some(map) if map.capacity() >= fields => map,
        _ => HeaderMap::with_capacity(fields.max(FEW)),
    }
}

/// Takes back a map that nobody needs any more.
pub(crate) fn keep_header_map(mut map: HeaderMap) {
    if (1..=FIELDS).contains(&map.capacity()) {
        map.clear();
        MAPS.with_borrow_mut(|maps| {
            if maps.len() < KEPT {
                maps.push(map);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_comes_back_empty() {
        let mut map = HeaderMap::with_capacity(4);
        map.append("a", "1".parse().unwrap());
        map.append("a", "2".parse().unwrap());
        keep_header_map(map);
        let again = header_map(1);
        assert!(again.is_empty() && again.capacity() >= 4);
        keep_header_map(HeaderMap::new());
        keep_header_map(HeaderMap::with_capacity(1000));
        assert_eq!(MAPS.with_borrow(Vec::len), 0);
    }
}
