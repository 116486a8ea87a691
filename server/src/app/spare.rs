//! Memory used again: what each request needs for a moment is kept by its thread, not by its connection, and not asked of
//! the allocator each time.

use std::cell::RefCell;
use std::rc::Rc;
use std::thread::LocalKey;

use ::http::HeaderMap;
use bytes::{Bytes, BytesMut};

use super::request::Came;
use crate::http::Head;

/// So many pieces of each kind are kept by a thread.
const KEPT: usize = 8;
/// So many heads, for as many requests have one at once whose handlers wait: half a megabyte, and 4 MiB if each is as long as may be.
const HEADS: usize = 1024;
/// No map for more fields is kept.
const FIELDS: usize = 64;
/// Heads that take more are not kept; most take less than `HEAD`.
const LARGEST_HEAD: usize = 4 * 1024;
const HEAD: usize = 512;

type Kept<P> = RefCell<Vec<P>>;

thread_local! {
    static MAPS: Kept<HeaderMap> = const { RefCell::new(Vec::new()) };
    static CAME: Kept<Rc<Came>> = const { RefCell::new(Vec::new()) };
    static BYTES: Kept<BytesMut> = const { RefCell::new(Vec::new()) };
}

#[inline(always)]
fn keep<P>(kept: &'static LocalKey<Kept<P>>, most: usize, piece: P) {
    kept.with_borrow_mut(|kept| {
        if kept.len() < most {
            kept.push(piece);
        }
    });
}

/// A head that has come: a copy of `bytes`, and what they say.
#[inline]
pub(crate) fn came(bytes: &[u8], head: Head) -> Rc<Came> {
    if let Some(mut spare) = CAME.with_borrow_mut(Vec::pop)
        && let Some(came) = Rc::get_mut(&mut spare)
    {
        came.renew(bytes, head);
        return spare;
    }
    new_came(bytes, head)
}

#[cold]
#[inline(never)]
fn new_came(bytes: &[u8], head: Head) -> Rc<Came> {
    Rc::new(Came::new(HEAD, bytes, head))
}

/// Takes a head back, if nobody else has it any more.
#[inline(always)]
pub(crate) fn keep_came(mut spare: Rc<Came>) {
    if let Some(came) = Rc::get_mut(&mut spare)
        && came.capacity() <= LARGEST_HEAD
    {
        came.forget();
        keep(&CAME, HEADS, spare);
    }
}

/// A copy of a head's bytes that can be shared.
pub(super) fn bytes(bytes: &[u8]) -> Bytes {
    let mut room = BYTES.with_borrow_mut(Vec::pop).unwrap_or_else(new_bytes);
    room.extend_from_slice(bytes);
    room.freeze()
}

#[cold]
fn new_bytes() -> BytesMut {
    let mut room = BytesMut::with_capacity(HEAD);
    // Splitting makes it a shared one: it has its count of references from now on, and not anew with each head.
    drop(room.split_to(0));
    room
}

/// Takes them back, if nobody has a part of them any more.
pub(super) fn keep_bytes(bytes: Bytes) {
    if let Ok(mut room) = bytes.try_into_mut()
        && room.capacity() <= LARGEST_HEAD
    {
        room.clear();
        keep(&BYTES, KEPT, room);
    }
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
        keep(&MAPS, KEPT, map);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HeadReader, KnownFields, Limits};

    #[test]
    fn bytes_are_used_again_once_nobody_holds_a_part_of_them() {
        let first = bytes(b"GET /first HTTP/1.1\r\n\r\n");
        let (place, part) = (first.as_ptr(), first.slice(4..10));
        keep_bytes(first);
        let second = bytes(b"GET /second HTTP/1.1\r\n\r\n");
        assert_eq!(&part[..], b"/first");
        drop(part);
        assert_ne!(second.as_ptr(), place);
        let place = second.as_ptr();
        keep_bytes(second);
        assert_eq!(bytes(b"GET").as_ptr(), place);
        keep_bytes(bytes(&[b'x'; 2 * LARGEST_HEAD]));
        assert_eq!(&bytes(b"GET")[..], b"GET");
    }

    #[test]
    fn a_head_is_used_again_once_nobody_has_it() {
        let head = |bytes: &[u8]| {
            let found = HeadReader::default()
                .read(bytes, &Limits::default(), &mut KnownFields::default())
                .unwrap()
                .unwrap();
            came(bytes, found.head.unwrap())
        };
        let first = head(b"GET /first HTTP/1.0\r\n\r\n");
        let (place, kept) = (Rc::as_ptr(&first), Rc::clone(&first));
        keep_came(first);
        let second = head(b"PUT /second HTTP/1.0\r\n\r\n");
        assert_ne!(Rc::as_ptr(&second), place);
        drop(second);
        keep_came(kept);
        let third = head(b"GET /3 HTTP/1.0\r\n\r\n");
        assert_eq!((Rc::as_ptr(&third), third.bytes()), (place, &b"GET /3 HTTP/1.0\r\n\r\n"[..]));
    }

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
