//! Where each part of a JSON text stands, so that one value can be changed while every other byte stays as somebody
//! wrote it: order, blanks, numbers, keys that nobody here knows.

use std::ops::Range;

use zeroize::Zeroizing;

use super::PayloadError;

pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) kind: NodeKind,
}

pub(super) enum NodeKind {
    Text,
    Null,
    Other,
    List(Vec<Node>),
    Object(Vec<Member>),
}

pub(super) struct Member {
    pub(super) key: String,
    /// From the key's quote to the end of the value.
    pub(super) span: Range<usize>,
    pub(super) value: Node,
}

impl Node {
    /// The text must be JSON by another reader: what is not, has no outline.
    pub(super) fn of(text: &str) -> Result<Self, PayloadError> {
        let mut scan = Scan { text, at: 0 };
        scan.value()
            .ok_or(PayloadError::BrokenJson { line: 0, column: 0 })
    }

    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let NodeKind::Object(members) = &self.kind else {
            return None;
        };
        let found = members.iter().find(|member| member.key == key);
        found.map(|member| &member.value)
    }

    /// As [`super::Json::at`] walks.
    pub(super) fn at(&self, path: &str) -> Option<&Self> {
        if let Some(value) = self.get(path) {
            return Some(value);
        }
        let (head, rest) = match path.split_once('.') {
            Some((head, rest)) => (head, Some(rest)),
            None => (path, None),
        };
        let value = match &self.kind {
            NodeKind::List(items) => items.get(head.parse::<usize>().ok()?)?,
            _ => self.get(head)?,
        };
        match rest {
            Some(rest) => value.at(rest),
            None => Some(value),
        }
    }
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn value(&mut self) -> Option<Node> {
        self.skip_blanks();
        let start = self.at;
        let kind = match self.peek()? {
            b'"' => {
                self.string()?;
                NodeKind::Text
            }
            b'{' => NodeKind::Object(self.members()?),
            b'[' => NodeKind::List(self.items()?),
            b'n' => {
                self.word();
                NodeKind::Null
            }
            _ => {
                self.word();
                NodeKind::Other
            }
        };
        (self.at > start).then_some(Node {
            span: start..self.at,
            kind,
        })
    }

    /// Past its closing quote.
    fn string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(())
    }

    fn word(&mut self) {
        while self
            .peek()
            .is_some_and(|byte| !byte.is_ascii_whitespace() && !matches!(byte, b',' | b']' | b'}'))
        {
            self.at += 1;
        }
    }

    fn members(&mut self) -> Option<Vec<Member>> {
        let mut members = Vec::new();
        self.at += 1;
        loop {
            self.skip_blanks();
            match self.peek()? {
                b'}' => break,
                b',' => self.at += 1,
                b'"' => members.push(self.member()?),
                _ => return None,
            }
        }
        self.at += 1;
        Some(members)
    }

    fn member(&mut self) -> Option<Member> {
        let start = self.at;
        self.string()?;
        let key = serde_json::from_str(&self.text[start..self.at]).ok()?;
        self.skip_blanks();
        if self.peek()? != b':' {
            return None;
        }
        self.at += 1;
        let value = self.value()?;
        Some(Member {
            key,
            span: start..self.at,
            value,
        })
    }

    fn items(&mut self) -> Option<Vec<Node>> {
        let mut items = Vec::new();
        self.at += 1;
        loop {
            self.skip_blanks();
            match self.peek()? {
                b']' => break,
                b',' => self.at += 1,
                _ => items.push(self.value()?),
            }
        }
        self.at += 1;
        Some(items)
    }
}

/// Pieces of a text that are to be replaced, all at once.
#[derive(Default)]
pub(super) struct Edits(Vec<(Range<usize>, Zeroizing<String>)>);

impl Edits {
    pub(super) fn replace(&mut self, span: Range<usize>, by: Zeroizing<String>) {
        self.0.push((span, by));
    }

    pub(super) fn apply(mut self, text: &str) -> Zeroizing<String> {
        self.0.sort_by_key(|(span, _)| (span.start, span.end));
        let added: usize = self.0.iter().map(|(_, by)| by.len()).sum();
        // Grown once: a text that moves leaves a copy behind that nobody wipes.
        let mut edited = Zeroizing::new(String::with_capacity(text.len() + added));
        let mut at = 0;
        for (span, by) in &self.0 {
            edited.push_str(&text[at..span.start]);
            edited.push_str(by);
            at = span.end;
        }
        edited.push_str(&text[at..]);
        edited
    }
}

/// A value as JSON writes it.
pub(super) fn quoted(value: &str) -> Zeroizing<String> {
    let mut quoted = String::with_capacity(2 + 6 * value.len());
    quoted.push('"');
    for character in value.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            control if u32::from(control) < 0x20 => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    Zeroizing::new(quoted)
}

/// What adds a member at the end of an object, written as the members before it are.
pub(super) fn added(
    text: &str,
    object: &Node,
    key: &str,
    value: &str,
) -> Option<(Range<usize>, Zeroizing<String>)> {
    let NodeKind::Object(members) = &object.kind else {
        return None;
    };
    let key = quoted(key);
    let Some(last) = members.last() else {
        let inside = object.span.start + 1..object.span.end - 1;
        return Some((inside, Zeroizing::new(format!("{}:{value}", *key))));
    };
    let before = match members.len() {
        1 => &text[object.span.start + 1..last.span.start],
        more => between(text, members[more - 2].span.end, last.span.start),
    };
    let is_spaced = text[..last.value.span.start].ends_with(' ');
    let blank = if is_spaced { " " } else { "" };
    let member = Zeroizing::new(format!(",{before}{}:{blank}{value}", *key));
    Some((last.span.end..last.span.end, member))
}

/// The blanks after the comma.
fn between(text: &str, from: usize, to: usize) -> &str {
    let between = &text[from..to];
    between.split_once(',').map_or(between, |(_, blanks)| blanks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(text: &str, key: &str, value: &str) -> String {
        let node = Node::of(text).unwrap();
        let (span, by) = added(text, &node, key, value).unwrap();
        let mut edits = Edits::default();
        edits.replace(span, by);
        edits.apply(text).to_string()
    }

    #[test]
    fn a_member_is_added_as_the_others_are_written() {
        assert_eq!(add(r#"{"a":1}"#, "b", "2"), r#"{"a":1,"b":2}"#);
        assert_eq!(
            add(r#"{"a": 1, "c": [2]}"#, "b", "2"),
            r#"{"a": 1, "c": [2], "b": 2}"#
        );
        assert_eq!(
            add("{\n  \"a\": 1,\n  \"c\": {}\n}\n", "b", "2"),
            "{\n  \"a\": 1,\n  \"c\": {},\n  \"b\": 2\n}\n"
        );
        assert_eq!(
            add("{\n  \"a\": 1\n}\n", "b", "2"),
            "{\n  \"a\": 1,\n  \"b\": 2\n}\n"
        );
        assert_eq!(add("{ }", "b", "2"), r#"{"b":2}"#);
    }

    #[test]
    fn every_part_is_found_where_it_stands() {
        let text = r#" {"a\"b": "x\\\"}", "n": null, "list": [1.50e3, {"deep": true}], "u":"é"} "#;
        let node = Node::of(text).unwrap();
        let shown = |path: &str| node.at(path).map(|node| &text[node.span.clone()]);
        assert_eq!(shown("a\"b"), Some(r#""x\\\"}""#));
        assert_eq!(shown("n"), Some("null"));
        assert_eq!(shown("list.0"), Some("1.50e3"));
        assert_eq!(shown("list.1.deep"), Some("true"));
        assert_eq!(shown("u"), Some("\"é\""));
        assert_eq!(shown("list.2"), None);
        assert!(matches!(node.at("n").unwrap().kind, NodeKind::Null));
        for broken in ["", "{", "[1", "{\"a\" 1}", "\"open", "{1:2}"] {
            assert!(Node::of(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn what_is_quoted_is_read_back() {
        for value in ["", "a\"b\\c\n\u{1}\u{1f}", "é\u{7f}漢"] {
            let read: String = serde_json::from_str(&quoted(value)).unwrap();
            assert_eq!(read, value);
        }
    }
}
