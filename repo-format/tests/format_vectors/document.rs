//! The vectors of docs/FORMAT.md: reading them out of it, comparing, and writing them anew.

use std::collections::BTreeSet;

const OPEN: &str = "```vectors name=";
const CLOSE: &str = "```";
/// Longer values go to lines of their own.
const WIDTH: usize = 96;

/// One line of a block.
struct Line {
    name: String,
    value: String,
    remark: Option<String>,
}

/// One block: the inputs that are written by hand, and the outputs that the implementation must
/// reproduce. Which is which only the code that runs the block says.
pub struct Section {
    pub name: String,
    lines: Vec<Line>,
    /// Names asked for or checked; what is left over nobody ran.
    seen: BTreeSet<String>,
    writing: bool,
    problems: Vec<String>,
}

impl Section {
    fn line(&self, name: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.name == name)
    }

    /// An input as text.
    pub fn text(&mut self, name: &str) -> String {
        self.seen.insert(name.to_owned());
        let line = self.line(name).unwrap_or_else(|| panic!("{}: there is no input {name}", self.name));
        line.value.clone()
    }

    /// An input as bytes.
    pub fn bytes(&mut self, name: &str) -> Vec<u8> {
        unhex(&self.text(name))
    }

    /// An input of a known length.
    pub fn array<const N: usize>(&mut self, name: &str) -> [u8; N] {
        self.bytes(name).try_into().unwrap_or_else(|_| panic!("{}: {name} has another length", self.name))
    }

    /// An input that is a decimal number.
    pub fn number(&mut self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or_else(|_| panic!("{}: {name} is no number", self.name))
    }

    /// The names of all lines, for blocks in which the name is the input.
    pub fn names(&self) -> Vec<String> {
        self.lines.iter().map(|line| line.name.clone()).collect()
    }

    /// Whether a line of that name is there.
    pub fn has(&self, name: &str) -> bool {
        self.line(name).is_some()
    }

    /// An output as bytes.
    pub fn check(&mut self, name: &str, bytes: &[u8]) {
        let found = self.line(name).map(|line| unhex(&line.value) == bytes);
        self.compared(name, &hex(bytes), found);
    }

    /// An output as text; several words are separated by white space of any length.
    pub fn check_text(&mut self, name: &str, value: &str) {
        let found = self.line(name).map(|line| line.value.split_whitespace().eq(value.split_whitespace()));
        self.compared(name, value, found);
    }

    fn compared(&mut self, name: &str, value: &str, found: Option<bool>) {
        self.seen.insert(name.to_owned());
        if self.writing {
            self.put(name, value, None);
        } else if found != Some(true) {
            let told = if found.is_none() { "is missing" } else { "is another" };
            self.problems.push(format!("{}: {name} {told}, expected {value}", self.name));
        }
    }

    /// An answer to an input that must be refused.
    pub fn check_refused<T>(&mut self, name: &str, answer: Result<T, repo_format::Error>) {
        self.seen.insert(name.to_owned());
        let Err(error) = answer else {
            self.problems.push(format!("{}: {name} was not refused", self.name));
            return;
        };
        let known = self.line(name).and_then(|line| line.remark.clone());
        if self.writing {
            let value = self.line(name).map_or(String::new(), |line| line.value.clone());
            self.put(name, &value, Some(error.to_string()));
        } else if known.as_deref() != Some(error.to_string().as_str()) {
            self.problems.push(format!("{}: {name} was refused with \"{error}\"", self.name));
        }
    }

    /// Every line must be refused by `decode`.
    pub fn refuse_all<T>(&mut self, mut decode: impl FnMut(&[u8]) -> Result<T, repo_format::Error>) {
        for name in self.names() {
            let bytes = self.bytes(&name);
            self.check_refused(&name, decode(&bytes));
        }
    }

    /// Makes sure that an input which is made by sealing or by changing a good vector is there.
    pub fn seed(&mut self, name: &str, bytes: &[u8]) {
        if !self.has(name) {
            self.check(name, bytes);
        }
    }

    fn put(&mut self, name: &str, value: &str, remark: Option<String>) {
        match self.lines.iter_mut().find(|line| line.name == name) {
            Some(line) => (line.value, line.remark) = (value.to_owned(), remark),
            None => self.lines.push(Line { name: name.to_owned(), value: value.to_owned(), remark }),
        }
    }

    fn render(&self) -> String {
        let mut out = format!("{OPEN}{}\n", self.name);
        for Line { name, value, remark } in &self.lines {
            out.push_str(name);
            out.push_str(" =");
            let long = name.len() + value.len() > WIDTH;
            let pieces: Vec<String> = if !long {
                vec![value.clone()]
            } else if value.contains(' ') {
                wrap(value)
            } else {
                value.as_bytes().chunks(WIDTH).map(|part| String::from_utf8_lossy(part).into()).collect()
            };
            for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
                out.push_str(if long { "\n  " } else { " " });
                out.push_str(piece);
            }
            if let Some(remark) = remark {
                out.push_str(" # ");
                out.push_str(remark);
            }
            out.push('\n');
        }
        out + CLOSE
    }
}

fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().unwrap();
        if !last.is_empty() && last.len() + word.len() > WIDTH {
            lines.push(word.to_owned());
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}

/// The document: its blocks, and what is between them.
pub struct Document {
    /// Text before each block, and after the last.
    prose: Vec<String>,
    pub sections: Vec<Section>,
}

impl Document {
    pub fn parse(text: &str, writing: bool) -> Self {
        let (mut prose, mut sections) = (vec![String::new()], Vec::new());
        let mut block: Option<Section> = None;
        for line in text.lines() {
            match &mut block {
                None => match line.strip_prefix(OPEN) {
                    Some(name) => {
                        let name = name.to_owned();
                        let (lines, seen) = (Vec::new(), BTreeSet::new());
                        block = Some(Section { name, lines, seen, writing, problems: Vec::new() });
                    }
                    None => {
                        let last = prose.last_mut().unwrap();
                        last.push_str(line);
                        last.push('\n');
                    }
                },
                Some(_) if line == CLOSE => {
                    sections.extend(block.take());
                    prose.push(String::new());
                }
                Some(section) => section.parse_line(line),
            }
        }
        assert!(block.is_none(), "a block of vectors has no end");
        Self { prose, sections }
    }

    pub fn render(&self) -> String {
        let mut out = String::new();
        for (position, prose) in self.prose.iter().enumerate() {
            out.push_str(prose);
            if let Some(section) = self.sections.get(position) {
                out.push_str(&section.render());
                out.push('\n');
            }
        }
        out
    }

    pub fn problems(&self) -> Vec<String> {
        let mut all = Vec::new();
        for section in &self.sections {
            all.extend(section.problems.iter().cloned());
            let unused = section.lines.iter().filter(|line| !section.seen.contains(&line.name));
            all.extend(unused.map(|line| format!("{}: nobody ran {}", section.name, line.name)));
            if section.lines.is_empty() {
                all.push(format!("{}: there are no vectors in it", section.name));
            }
        }
        all
    }
}

impl Section {
    fn parse_line(&mut self, line: &str) {
        let (line, remark) = match line.split_once(" # ") {
            Some((line, remark)) => (line, Some(remark.to_owned())),
            None => (line, None),
        };
        if let Some(more) = line.strip_prefix("  ") {
            let last = self.lines.last_mut().unwrap_or_else(|| panic!("{}: it begins inside", self.name));
            if !last.value.is_empty() {
                last.value.push(' ');
            }
            last.value.push_str(more.trim());
            last.remark = remark;
            return;
        }
        let (name, value) = match line.strip_suffix(" =") {
            Some(name) => (name, ""),
            None => line.split_once(" = ").unwrap_or_else(|| panic!("{}: no vector: {line}", self.name)),
        };
        assert!(self.line(name).is_none(), "{}: {name} is there twice", self.name);
        self.lines.push(Line { name: name.to_owned(), value: value.trim().to_owned(), remark });
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> =
        text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16).expect("hexadecimal")).collect();
    assert!(digits.len().is_multiple_of(2), "half a byte in {text}");
    digits.chunks_exact(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}
