#![doc = include_str!("../docs/gunicorn.md")]
#![doc = ""]
#![doc = "This module holds nothing but this page."]
