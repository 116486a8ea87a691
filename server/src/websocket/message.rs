//! What goes through a WebSocket.

use bytes::Bytes;
pub use tungstenite::Utf8Bytes as Text;

/// A message. Cloning one is cheap: clones share their bytes.
///
/// ```
/// use greenserve::websocket::Message;
///
/// let message = Message::from("hello");
/// assert_eq!(message.as_text(), Some("hello"));
/// assert_eq!(message.as_bytes(), b"hello");
/// assert_eq!(Message::from(vec![1, 2]).as_text(), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// UTF-8; [`Text`] is a `str` that can be shared.
    Text(Text),
    /// Any bytes.
    Binary(Bytes),
}

impl Message {
    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Message::Text(text) => Some(text),
            Message::Binary(_) => None,
        }
    }

    /// Its bytes, of either kind.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
        }
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Message {
        Message::Text(text.into())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Message {
        Message::Text(text.into())
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Message {
        Message::Binary(bytes.into())
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Message {
        Message::Binary(bytes)
    }
}

impl From<Message> for tungstenite::Message {
    fn from(message: Message) -> tungstenite::Message {
        match message {
            Message::Text(text) => tungstenite::Message::Text(text),
            Message::Binary(bytes) => tungstenite::Message::Binary(bytes),
        }
    }
}

/// Why a WebSocket was closed, as the peer has said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseFrame {
    /// One of [`close`](super::close), or the application's own.
    pub code: u16,
    /// In words; mostly empty.
    pub reason: String,
}
