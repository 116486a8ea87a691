//! What the documentation of [`Router`] promises.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use super::*;
use crate::{Body, limit_body};

/// A request made by hand; `target` may be anything that is a `Uri`.
fn request(method: &str, target: &str) -> Request {
    ::http::Request::builder().method(method).uri(target).body(Body::empty()).unwrap().into()
}

fn text(response: Response) -> String {
    String::from_utf8(response.into_body().into_bytes().unwrap().to_vec()).unwrap()
}

/// The status, and the text of it.
fn ask(router: &impl Handler, method: &str, target: &str) -> (u16, String) {
    let response = router.call(request(method, target));
    (response.status().as_u16(), text(response))
}

fn get(router: &impl Handler, target: &str) -> String {
    match ask(router, "GET", target) {
        (200, text) => text,
        (status, _) => status.to_string(),
    }
}

fn allow(router: &impl Handler, method: &str, target: &str) -> (u16, String) {
    let response = router.call(request(method, target));
    let allow = response.headers().get("allow").map(|value| value.to_str().unwrap().to_owned());
    (response.status().as_u16(), allow.unwrap_or_default())
}

/// All that a handler is told of its place.
fn place(req: Request) -> String {
    let params: Vec<_> = req.params().map(|(name, value)| format!("{name}={value}")).collect();
    let route = req.route().unwrap_or("none");
    format!("{route} [{}] {}|{}", params.join(" "), req.script_name(), req.path_info())
}

/// What is said of a router that can't be built.
fn complaint(build: impl FnOnce(Router) -> Router) -> String {
    let panic = catch_unwind(AssertUnwindSafe(|| build(Router::new()))).unwrap_err();
    panic.downcast_ref::<String>().unwrap().clone()
}

#[test]
fn the_more_literal_route_is_taken_whatever_the_order() {
    let site = Router::new()
        .get("/{*rest}", place)
        .get("/users/{id}", place)
        .get("/users/me", place)
        .get("/users/{id}/posts", place)
        .get("/files/img-{n}.png", place)
        .get("/", place);
    for (path, expected) in [
        ("/", "/ [] |/"),
        ("/users/me", "/users/me [] |/users/me"),
        ("/users/7", "/users/{id} [id=7] |/users/7"),
        ("/users/7/posts", "/users/{id}/posts [id=7] |/users/7/posts"),
        ("/users/me/posts", "/users/{id}/posts [id=me] |/users/me/posts"),
        ("/users/7/mails", "/{*rest} [rest=users/7/mails] |/users/7/mails"),
        ("/files/img-3.png", "/files/img-{n}.png [n=3] |/files/img-3.png"),
        ("http://host/users/7?a=/b", "/users/{id} [id=7] |/users/7"),
    ] {
        assert_eq!(get(&site, path), expected, "{path}");
    }
}

#[test]
fn slashes_are_not_made_up_and_not_forgiven() {
    let site =
        Router::new().get("/a", place).get("/b/", place).get("/c/{id}", place).get("/d/{*rest}", place);
    for path in ["/a/", "/b", "//a", "/c/", "/c//", "/c", "/d", "/d/", "/x/../a", "/./a"] {
        assert_eq!(get(&site, path), "404", "{path}");
    }
    assert_eq!(get(&site, "/d//x/"), "/d/{*rest} [rest=/x/] |/d//x/");
}

#[test]
fn parameters_are_decoded_after_the_path_was_taken_apart() {
    let site = Router::new().get("/one/{a}", place).get("/two/{a}/{b}", place).get("/all/{*a}", place);
    for (path, expected) in [
        ("/one/a%2Fb", "/one/{a} [a=a/b] |/one/a%2Fb"),
        ("/two/%2e%2E/%25%32%35", "/two/{a}/{b} [a=.. b=%25] |/two/%2e%2E/%25%32%35"),
        ("/one/100%", "/one/{a} [a=100%] |/one/100%"),
        ("/one/%%34%31", "/one/{a} [a=%41] |/one/%%34%31"),
        ("/one/%C3%BC+x", "/one/{a} [a=ü+x] |/one/%C3%BC+x"),
        ("/all/a%2fb/c", "/all/{*a} [a=a/b/c] |/all/a%2fb/c"),
        ("/one/%FF", "400"),
        ("/one/a%2Fb/c", "404"),
    ] {
        assert_eq!(get(&site, path), expected, "{path}");
    }
}

#[test]
fn equivalent_paths_have_the_same_route() {
    let site = Router::new().get("/~me", |_: Request| "me").get("/café au lait", |_: Request| "café");
    for path in ["/~me", "/%7eme", "/%7E%6De"] {
        assert_eq!(get(&site, path), "me", "{path}");
    }
    for path in ["/caf%C3%A9%20au%20lait", "/caf%c3%a9%20%61u%20lait"] {
        assert_eq!(get(&site, path), "café", "{path}");
    }
    assert_eq!(get(&site, "/caf%C3%A9+au+lait"), "404");
}

#[test]
fn methods_are_looked_at_after_the_path() {
    let site = Router::new()
        .get("/a", |_: Request| "got")
        .put("/a", |_: Request| "put")
        .post("/b", |_: Request| "posted")
        .route([Method::PATCH, Method::DELETE], "/b", |_: Request| "either")
        .any("/b/any", |_: Request| "any")
        .get("/b/any", |_: Request| "got")
        .head("/c", |_: Request| "head")
        .get("/c", |_: Request| "got")
        .options("/c", |_: Request| "mine");
    assert_eq!(ask(&site, "PUT", "/a"), (200, "put".into()));
    assert_eq!(ask(&site, "HEAD", "/a"), (200, "got".into()));
    assert_eq!(ask(&site, "DELETE", "/b").1, "either");
    assert_eq!(ask(&site, "BREW", "/b/any").1, "any");
    assert_eq!(ask(&site, "GET", "/b/any").1, "got");
    assert_eq!(ask(&site, "HEAD", "/b/any").1, "got");
    assert_eq!(ask(&site, "HEAD", "/c").1, "head");
    assert_eq!(ask(&site, "OPTIONS", "/c").1, "mine");
    assert_eq!(allow(&site, "POST", "/a"), (405, "GET, HEAD, OPTIONS, PUT".into()));
    assert_eq!(allow(&site, "HEAD", "/b"), (405, "DELETE, OPTIONS, PATCH, POST".into()));
    assert_eq!(allow(&site, "OPTIONS", "/b"), (204, "DELETE, OPTIONS, PATCH, POST".into()));
    assert_eq!(allow(&site, "BREW", "/a").0, 405);
    assert_eq!(site.call(request("BREW", "/a")).route(), Some("/a"));
}

#[test]
fn targets_that_are_no_paths_have_answers_too() {
    let site = Router::new().get("/a", place).post("/b", place);
    assert_eq!(allow(&site, "OPTIONS", "*"), (204, "GET, HEAD, OPTIONS, POST".into()));
    assert_eq!(allow(&site, "CONNECT", "host:443"), (501, String::new()));
    let own = site.options("*", |_: Request| "ping").fallback(|req: Request| req.method().to_string());
    assert_eq!(ask(&own, "OPTIONS", "*").1, "ping");
    assert_eq!(ask(&own, "CONNECT", "host:443").1, "CONNECT");
    assert_eq!(ask(&own, "PUT", "/nowhere").1, "PUT");
    assert_eq!(ask(&own, "PUT", "/a").0, 405);
}

#[test]
fn a_nest_has_all_that_begins_with_its_prefix() {
    let inner = Router::new().get("/", place).get("/x/{id}", place).nest("/deep", place);
    let site = Router::new().nest("/t/{team}", inner).get("/t/own/x/{id}", place).nest("/static", place);
    for (path, expected) in [
        ("/t/a", "/t/{team}/ [team=a] /t/a|"),
        ("/t/a/", "/t/{team}/ [team=a] /t/a|/"),
        ("/t/%61%2F/x/%20", "/t/{team}/x/{id} [team=a/ id= ] /t/%61%2F|/x/%20"),
        ("/t/own/x/1", "/t/own/x/{id} [id=1] |/t/own/x/1"),
        ("/t/own/y/1", "404"),
        ("/t/a/deep", "/t/{team}/deep [team=a] /t/a/deep|"),
        ("/t/a/deep//b", "/t/{team}/deep [team=a] /t/a/deep|//b"),
        ("/t/a//x/1", "404"),
        ("/t/a/none", "404"),
        ("/t//x/1", "404"),
        ("/t/%FF/", "400"),
        ("/static", "/static [] /static|"),
        ("/static/", "/static [] /static|/"),
        ("/statics", "404"),
    ] {
        assert_eq!(get(&site, path), expected, "{path}");
    }
    assert_eq!(allow(&site, "POST", "/t/a/x/1"), (405, "GET, HEAD, OPTIONS".into()));
    assert_eq!(site.call(request("POST", "/t/a/x/1")).route(), Some("/t/{team}/x/{id}"));
    assert_eq!(site.call(request("GET", "/t/a/none")).route(), Some("/t/{team}"));
}

#[test]
fn a_nest_at_the_root_has_what_is_left_and_adds_nothing() {
    let inner = Router::new().get("/a", place).fallback(|_: Request| "inner fallback");
    let site = Router::new().get("/b", place).nest("/", inner).fallback(|_: Request| "outer fallback");
    assert_eq!(get(&site, "/a"), "/a [] |/a");
    assert_eq!(get(&site, "/b"), "/b [] |/b");
    assert_eq!(get(&site, "/"), "inner fallback");
    assert_eq!(get(&site, "/c/d"), "inner fallback");
    assert_eq!(ask(&site, "POST", "/b").0, 405);
    assert_eq!(ask(&site, "CONNECT", "h:1").1, "outer fallback");
    assert_eq!(site.call(request("GET", "/c")).route(), None);
}

#[test]
fn a_route_may_stand_where_a_nest_begins() {
    let site = Router::new().nest("/api", place).get("/api", |_: Request| "index").get("/api/{*rest}", place);
    assert_eq!(get(&site, "/api"), "index");
    assert_eq!(ask(&site, "POST", "/api").1, "/api [] /api|");
    assert_eq!(get(&site, "/api/a/b"), "/api/{*rest} [rest=a/b] |/api/a/b");
    assert_eq!(ask(&site, "PUT", "/api/a/b").1, "/api [] /api|/a/b");
}

#[test]
fn the_innermost_parameter_of_a_name_counts() {
    let inner = Router::new().get("/{id}", |req: Request| req.param("id").unwrap_or("none").to_owned());
    assert_eq!(get(&Router::new().nest("/{id}", inner), "/a/b"), "b");
    let typed = Router::new()
        .get("/{n}", |req: Request| req.param_as::<u8>("n").map(|n| n.to_string()))
        .get("/{n}/wrong", |req: Request| req.param_as::<u8>("m").map(|n| n.to_string()));
    assert_eq!(
        (get(&typed, "/255"), get(&typed, "/256"), get(&typed, "/1/wrong")),
        ("255".into(), "404".into(), "500".into())
    );
}

#[test]
fn what_was_found_stays_with_a_request_that_becomes_the_http_crates() {
    let there_and_back = |req: Request, next: &dyn Handler| next.call(::http::Request::from(req).into());
    let inner = Router::new().get("/{b}", place.with(there_and_back));
    let site = Router::new().nest("/{a}", inner.with(there_and_back));
    assert_eq!(get(&site, "/1/2"), "/{a}/{b} [a=1 b=2] /1|/2");
}

#[test]
fn middleware_stands_around_a_route_a_nest_or_everything() {
    fn mark(name: &'static str) -> impl crate::Middleware + Send + Sync {
        move |req: Request, next: &dyn Handler| {
            let mut response = next.call(req);
            response.headers_mut().append("x-mark", name.parse().unwrap());
            response
        }
    }
    let inner = Router::new().get("/a", place.with(mark("route"))).get("/b", place.with(limit_body(3)));
    let site = Router::new().nest("/api", inner.with(mark("nest"))).get("/", place).with(mark("site"));
    let marks = |method, path| {
        let response = site.call(request(method, path));
        let marks: Vec<_> =
            response.headers().get_all("x-mark").iter().map(|mark| mark.to_str().unwrap()).collect();
        marks.join(" ")
    };
    assert_eq!(marks("GET", "/api/a"), "route nest site");
    assert_eq!(marks("GET", "/api/b"), "nest site");
    assert_eq!(marks("POST", "/api/a"), "nest site");
    assert_eq!(marks("GET", "/api/none"), "nest site");
    assert_eq!(marks("GET", "/none"), "site");
    let mut large = request("GET", "/api/b");
    *large.body_mut() = "four".into();
    assert_eq!(site.call(large).status(), 413);
}

#[test]
fn a_local_router_takes_what_stays_on_its_thread_and_either_kind_nests_in_it() {
    let count = Rc::new(Cell::new(0));
    let counting = Rc::clone(&count);
    let inner = Router::new().get("/", |_: Request| "shared");
    let site = Router::local()
        .get("/count", move |_: Request| counting.set(counting.get() + 1))
        .nest("/inner", inner)
        .nest("/local", Rc::new(Router::local().get("/", place)));
    assert_eq!((get(&site, "/count"), get(&site, "/count")), (String::new(), String::new()));
    assert_eq!(
        (count.get(), get(&site, "/inner"), get(&site, "/local/")),
        (2, "shared".into(), "/local/ [] /local|/".into())
    );
    fn is_shared(_: &(impl Handler + Send + Sync)) {}
    is_shared(&Router::new().nest("/a", Router::new()).with(limit_body(1)));
}

#[test]
fn routes_that_conflict_are_named_both() {
    let complaints = [
        (complaint(|r| r.get("/a/{b}", place).get("/a/{b}", place)), ["GET /a/{b}", "GET /a/{b}"]),
        (complaint(|r| r.get("/a/{b}", place).post("/a/{c}", place)), ["POST /a/{c}", "GET /a/{b}"]),
        (complaint(|r| r.any("/a", place).any("/a", place)), ["any /a", "any /a"]),
        (complaint(|r| r.any("/a", place).nest("/a", place)), ["nest /a", "any /a"]),
        (complaint(|r| r.nest("/a", place).nest("/a", place)), ["nest /a", "nest /a"]),
        (complaint(|r| r.nest("/a", place).put("/a/{id}", place)), ["PUT /a/{id}", "nest /a"]),
        (complaint(|r| r.get("/{*all}", place).nest("/", place)), ["nest /", "GET /{*all}"]),
        (complaint(|r| r.get("/%7E", place).get("/~", place)), ["GET /~", "GET /%7E"]),
    ];
    for (said, names) in complaints {
        let (new, old) = said.split_once("conflicts with").unwrap_or_else(|| panic!("{said}"));
        assert!(new.contains(names[0]) && old.contains(names[1]), "{said}");
    }
}

#[test]
fn what_is_no_pattern_is_refused_by_name() {
    for pattern in ["", "a", "/a?b", "/a#b", "/{a", "/{}", "/{*a}/b", "/{a}{b}", "/a*/{*}"] {
        let said = complaint(|router| router.get(pattern, place));
        assert!(said.starts_with(&format!("GET {pattern} can't be a route: ")), "{said}");
    }
    for prefix in ["/a/", "/{*a}", "a", "*"] {
        let said = complaint(|router| router.nest(prefix, place));
        assert!(said.starts_with(&format!("nest {prefix} can't be a route: ")), "{said}");
    }
}
