//! An attribute that bears the name of the compiler's own `#[test]`, for a suite that was written with that.

use proc_macro::{Delimiter, Group, TokenStream, TokenTree};

/// Makes a function a test whose body runs in a green thread: `fn name() { body }` becomes
/// `#[test] fn name() { green_suite::run(move || { body }) }`.
#[proc_macro_attribute]
pub fn test(_: TokenStream, function: TokenStream) -> TokenStream {
    let mut tokens: Vec<TokenTree> = function.into_iter().collect();
    let Some(TokenTree::Group(body)) = tokens.pop() else { panic!("a test is a function with a body") };
    assert_eq!(body.delimiter(), Delimiter::Brace, "a test is a function with a body");
    let call: TokenStream = "::green_suite::run".parse().expect("a path");
    let mut closure: TokenStream = "move ||".parse().expect("a closure");
    closure.extend([TokenTree::Group(body)]);
    let mut inner = call;
    inner.extend([TokenTree::Group(Group::new(Delimiter::Parenthesis, closure))]);
    tokens.push(TokenTree::Group(Group::new(Delimiter::Brace, inner)));
    let mut result: TokenStream = "#[::core::prelude::v1::test]".parse().expect("an attribute");
    result.extend(tokens);
    result
}
