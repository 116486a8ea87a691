//! The table in which a path is looked up, with the methods that each place in it has.

use std::fmt;
use std::sync::Arc;

use ::http::Method;
use matchit::InsertError;
use percent_encoding::percent_decode_str;

use super::path;
use crate::app::Request;

/// What follows a nest's prefix; nobody can ask for it.
const REST: &str = "{*rest}";

/// Patterns, and the numbers of the handlers that answer there.
#[derive(Default)]
pub(super) struct Table {
    tree: matchit::Router<usize>,
    places: Vec<Place>,
}

/// All that is at one pattern.
struct Place {
    /// As it was written, for people.
    pattern: Arc<str>,
    /// As it is looked up.
    normal: String,
    names: Vec<Arc<str>>,
    methods: Vec<(Method, usize)>,
    any: Option<(usize, Option<Nest>)>,
}

/// A prefix of which all that is below belongs to one handler.
#[derive(Clone)]
pub(super) struct Nest {
    prefix: Arc<str>,
    /// How many of each it has: slashes, and parameters.
    slashes: usize,
    params: usize,
}

/// What a request comes to.
pub(super) enum Found {
    /// The handler of this number, by this route.
    Handler(usize, Option<Arc<str>>),
    Nothing,
    /// There is a place for its path, but not for its method: the value of `Allow`, and the route.
    Refused(String, Option<Arc<str>>),
    /// The parameter of this name can't be read as text.
    NotUtf8(Arc<str>),
}

impl Table {
    /// The place of a pattern, made if it is new. `name` says in messages what it is for.
    #[track_caller]
    fn place(&mut self, pattern: &str, name: &str) -> usize {
        let wrong = match pattern {
            "*" => None,
            _ if !pattern.starts_with('/') => Some("it does not begin with a slash"),
            _ if pattern.contains(['?', '#']) => Some("a query or a fragment is no part of a path"),
            _ => None,
        };
        if let Some(wrong) = wrong {
            panic!("{name} can't be a route: {wrong}");
        }
        let (normal, names) = path::normal_pattern(pattern);
        if let Some(at) = self.places.iter().position(|place| place.normal == normal) {
            return at;
        }
        let at = self.places.len();
        match self.tree.insert(&normal, at) {
            Ok(()) => {}
            Err(InsertError::Conflict { with }) => {
                let other = self.places.iter().find(|place| place.normal == with);
                let other = other.map_or(with.clone(), Place::described);
                panic!(
                    "the route {name} conflicts with {other}, which is there already: both match the same paths"
                )
            }
            Err(error) => panic!("{name} can't be a route: {error}"),
        }
        self.places.push(Place { pattern: pattern.into(), normal, names, methods: Vec::new(), any: None });
        at
    }

    /// These methods have that handler on paths that match `pattern`.
    #[track_caller]
    pub(super) fn route(&mut self, methods: Vec<Method>, pattern: &str, handler: usize) {
        let name = |methods: &[Method]| {
            format!("{} {pattern}", methods.iter().map(Method::as_str).collect::<Vec<_>>().join("+"))
        };
        let place = self.place(pattern, &name(&methods));
        let place = &mut self.places[place];
        for method in methods {
            if place.methods.iter().any(|(taken, _)| *taken == method) {
                let there = place.described();
                panic!("the route {} conflicts with {there}, which is there already", name(&[method]));
            }
            place.methods.push((method, handler));
        }
    }

    /// What is left on paths that match `pattern` has that handler.
    #[track_caller]
    pub(super) fn any(&mut self, pattern: &str, handler: usize) {
        self.rest(pattern, &format!("any {pattern}"), handler, None);
    }

    #[track_caller]
    fn rest(&mut self, pattern: &str, name: &str, handler: usize, nest: Option<Nest>) {
        let place = self.place(pattern, name);
        let place = &mut self.places[place];
        if place.any.is_some() {
            panic!("the route {name} conflicts with {}, which is there already", place.described());
        }
        place.any = Some((handler, nest));
    }

    #[track_caller]
    pub(super) fn nest(&mut self, prefix: &str, handler: usize) {
        let prefix = if prefix == "/" { "" } else { prefix };
        let name = format!("nest {}", if prefix.is_empty() { "/" } else { prefix });
        if prefix.ends_with('/') || prefix.contains("{*") || prefix == "*" {
            panic!(
                "{name} can't be a route: a prefix neither ends in a slash nor holds what stands for all that follows"
            );
        }
        let slashes = prefix.bytes().filter(|byte| *byte == b'/').count();
        let params = path::normal_pattern(prefix).1.len();
        let nest = Nest { prefix: prefix.into(), slashes, params };
        for pattern in [prefix, &format!("{prefix}/"), &format!("{prefix}/{REST}")] {
            if !pattern.is_empty() {
                self.rest(pattern, &name, handler, Some(nest.clone()));
            }
        }
    }

    /// Looks up what is left of the request's path, and notes in the request what was found.
    // Never inlined, so that nothing of it lies under the handler.
    #[inline(never)]
    pub(super) fn find(&self, req: &mut Request) -> Found {
        let left = req.path_info();
        // Empty: the nest itself is asked for, without a slash behind it.
        let path = if left.is_empty() && !req.script_name().is_empty() { "/" } else { left };
        let normal = path::normal(path);
        let Ok(found) = self.tree.at(&normal) else {
            return self.find_nothing(req);
        };
        let place = &self.places[*found.value];
        let Some((handler, nest)) = place.of(req.method()) else {
            let allow = allow(place.methods.iter().map(|(method, _)| method));
            return refused(req, &place.pattern, allow);
        };
        let (pattern, names, used) = match nest {
            None => (&place.pattern, &place.names[..], 0),
            Some(nest) => (&nest.prefix, &place.names[..nest.params], nest.used(left)),
        };
        let mut params = Vec::with_capacity(names.len());
        for (name, (_, value)) in names.iter().zip(found.params.iter()) {
            match percent_decode_str(value).decode_utf8() {
                Ok(value) => params.push((Arc::clone(name), value.into())),
                Err(_) => return Found::NotUtf8(Arc::clone(name)),
            }
        }
        let matched = req.matched_mut();
        matched.enter(pattern, params, used);
        Found::Handler(handler, matched.route().cloned())
    }

    #[cold]
    fn find_nothing(&self, req: &mut Request) -> Found {
        if req.method() != Method::OPTIONS || req.path() != "*" {
            return Found::Nothing;
        }
        // The server as a whole is asked (RFC 9110, 9.3.7).
        let methods = self.places.iter().flat_map(|place| &place.methods);
        Found::Refused(allow(methods.map(|(method, _)| method)), None)
    }
}

#[cold]
fn refused(req: &mut Request, pattern: &Arc<str>, allow: String) -> Found {
    let matched = req.matched_mut();
    matched.enter(pattern, Vec::new(), 0);
    Found::Refused(allow, matched.route().cloned())
}

/// The value of `Allow` where these methods have handlers: with those that a router answers by itself.
#[cold]
fn allow<'a>(methods: impl Iterator<Item = &'a Method>) -> String {
    let mut names: Vec<&str> = Vec::new();
    for method in methods {
        let implied = (*method == Method::GET).then_some("HEAD");
        names.extend([method.as_str()].into_iter().chain(implied));
    }
    names.push("OPTIONS");
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

impl Place {
    /// The handler that answers this method, and the nest that it answers for.
    fn of(&self, method: &Method) -> Option<(usize, Option<&Nest>)> {
        let find = |wanted: &Method| self.methods.iter().find(|(method, _)| method == wanted);
        let own = find(method).or_else(|| find(&Method::GET).filter(|_| *method == Method::HEAD));
        match (own, &self.any) {
            (Some((_, handler)), _) => Some((*handler, None)),
            (None, Some((handler, nest))) => Some((*handler, nest.as_ref())),
            (None, None) => None,
        }
    }

    /// For messages: what is there.
    fn described(&self) -> String {
        let mut kinds: Vec<&str> = self.methods.iter().map(|(method, _)| method.as_str()).collect();
        match &self.any {
            Some((_, Some(nest))) if kinds.is_empty() => {
                return format!("nest {}", if nest.prefix.is_empty() { "/" } else { &nest.prefix });
            }
            Some((_, Some(_))) => kinds.push("nest"),
            Some((_, None)) => kinds.push("any"),
            None => {}
        }
        format!("{} {}", kinds.join("+"), self.pattern)
    }
}

impl Nest {
    /// How much of a path it stands for.
    fn used(&self, path: &str) -> usize {
        memchr::memchr_iter(b'/', path.as_bytes()).nth(self.slashes).unwrap_or(path.len())
    }
}

/// A line for each.
impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.places.iter().map(Place::described)).finish()
    }
}
