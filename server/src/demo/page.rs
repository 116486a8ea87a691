//! The front page.

use std::fmt::Write;

use super::ROUTES;

const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>greenserve</title>
<style>
  :root { color-scheme: light dark; --green: #2a7d4f; }
  body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 3rem auto; padding: 0 1rem; }
  h1 { color: var(--green); margin-bottom: 0; }
  table { border-collapse: collapse; width: 100%; margin-top: 2rem; }
  td { padding: .35rem .8rem .35rem 0; vertical-align: top; border-top: 1px solid #8884; }
  code, .method { font: .9rem/1.6 ui-monospace, monospace; }
  .method { color: var(--green); }
  a { color: inherit; text-decoration-color: var(--green); text-underline-offset: .2em; }
</style>
<h1>greenserve</h1>
<p>It works: this page came from a green thread. The demo application is an inspector; here is what it answers.</p>
<table>
"#;

/// The page that lists the routes.
pub(super) fn html() -> String {
    let mut page = HEAD.to_owned();
    for route in ROUTES {
        let link = format!("{}{}", route.path.trim_end_matches('*'), route.example).replace('&', "&amp;");
        let shown = match route.method {
            "POST" => format!("<code>{link}</code>"),
            _ => format!("<a href=\"{link}\"><code>{link}</code></a>"),
        };
        // writing to a String cannot fail
        let _ = writeln!(page, "<tr><td class=\"method\">{}<td>{shown}<td>{}", route.method, route.what);
    }
    page.push_str(
        "</table>\n<p>Any other path is answered like <code>/echo</code>, with status 404.</p>\n</html>\n",
    );
    page
}
