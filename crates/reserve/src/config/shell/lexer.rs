//! From text to assignments.

use std::ops::Range;

use super::{Assignment, Kind, Quote, Script, Unit, Value};

/// Words with which something begins that is not carried out exactly once, in order, to its end.
const COMPOUND: [&str; 18] = [
    "if", "then", "else", "elif", "fi", "for", "while", "until", "do", "done", "case", "esac",
    "select", "function", "{", "}", "!", "[[",
];
/// Commands after which nothing more may be carried out, or in another way.
const ENDING: [&str; 6] = ["exit", "return", "exec", "set", "alias", "trap"];

/// What stands behind a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    /// Another word.
    Word,
    /// The end of the statement.
    End,
    /// `&`, `|`, `<` or `>`: the statement is no mere assignment.
    Operator,
    /// A parenthesis or a document in place: the end is not to be told without a shell.
    Lost,
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
}

/// A word of a statement.
struct Word {
    range: Range<usize>,
    units: Vec<Unit>,
    tail: (Quote, usize),
}

pub(super) fn parse(source: &str) -> Script<'_> {
    let mut lexer = Lexer { source, at: 0 };
    let mut script =
        Script { source, assignments: Vec::new(), others: Vec::new(), certain: source.len() };
    while lexer.go_to_statement() {
        let start = lexer.at;
        match lexer.statement() {
            Some(words) => {
                let range = start..lexer.at;
                match assignments(source, &words) {
                    Some(found) => script.assignments.extend(found),
                    None if ends(source, &words) => {
                        script.others.push(start..source.len());
                        script.certain = start;
                        break;
                    }
                    None => script.others.push(range),
                }
            }
            None => {
                script.others.push(start..source.len());
                script.certain = start;
                break;
            }
        }
    }
    script
}

/// The assignments of a statement that consists of nothing else, `export` aside.
fn assignments(source: &str, words: &[Word]) -> Option<Vec<Assignment>> {
    let exported = words.first().is_some_and(|word| &source[word.range.clone()] == "export");
    let words = if exported { &words[1..] } else { words };
    let found: Option<Vec<_>> = words.iter().map(|word| assignment(source, word)).collect();
    found.filter(|found| !found.is_empty())
}

fn assignment(source: &str, word: &Word) -> Option<Assignment> {
    let text = &source[word.range.clone()];
    let length = text.find(|char: char| !(char.is_ascii_alphanumeric() || char == '_'))?;
    let name = &text[..length];
    if name.is_empty() || name.starts_with(|char: char| char.is_ascii_digit()) {
        return None;
    }
    let behind = &text[length..];
    let appends = behind.starts_with("+=");
    if !appends && !behind.starts_with('=') {
        return None;
    }
    let start = word.range.start;
    let value = start + length + if appends { 2 } else { 1 };
    let units = word.units.iter().filter(|unit| unit.source.start >= value).cloned().collect();
    let tail = if word.tail.1 < value { (Quote::None, value) } else { word.tail };
    Some(Assignment {
        name: start..start + length,
        appends,
        value: Value { range: value..word.range.end, units, tail },
    })
}

/// Whether it is uncertain what is carried out behind this statement.
fn ends(source: &str, words: &[Word]) -> bool {
    let Some(first) = words.first() else { return false };
    let first = &source[first.range.clone()];
    COMPOUND.contains(&first) || ENDING.contains(&first)
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.source[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let char = self.peek()?;
        self.at += char.len_utf8();
        Some(char)
    }

    fn skip(&mut self, text: &str) -> bool {
        let there = self.rest().starts_with(text);
        if there {
            self.at += text.len();
        }
        there
    }

    fn skip_blanks(&mut self) {
        while self.skip(" ") || self.skip("\t") || self.skip("\\\n") {}
    }

    fn skip_line(&mut self) {
        self.at += self.rest().find('\n').unwrap_or(self.rest().len());
    }

    /// Goes to the next statement; false at the end of the file.
    fn go_to_statement(&mut self) -> bool {
        loop {
            self.skip_blanks();
            match self.peek() {
                None => return false,
                Some('#') => self.skip_line(),
                Some('\n' | ';') => self.at += 1,
                Some(_) => return true,
            }
        }
    }

    /// Reads the words of one statement, to its end. A statement with an operator has a word that
    /// is no assignment. `None` where its end cannot be told.
    fn statement(&mut self) -> Option<Vec<Word>> {
        let mut words = Vec::new();
        loop {
            self.skip_blanks();
            match self.behind() {
                Behind::Word => words.push(self.word()?),
                Behind::End => return Some(words),
                Behind::Operator => {
                    let start = self.at;
                    self.at += 1;
                    let tail = (Quote::None, self.at);
                    words.push(Word { range: start..self.at, units: Vec::new(), tail });
                }
                Behind::Lost => return None,
            }
        }
    }

    fn behind(&self) -> Behind {
        match self.peek() {
            None | Some('\n' | ';' | '#') => Behind::End,
            Some('<') if self.rest().starts_with("<<") => Behind::Lost,
            Some('(' | ')') => Behind::Lost,
            // What stands on the next line still belongs to it.
            Some('&' | '|')
                if self.rest()[1..]
                    .trim_start_matches(['&', '|', ' ', '\t'])
                    .starts_with(['\n', '#']) =>
            {
                Behind::Lost
            }
            Some('&' | '|' | '<' | '>') => Behind::Operator,
            Some(_) => Behind::Word,
        }
    }

    fn word(&mut self) -> Option<Word> {
        let start = self.at;
        let mut units = Vec::new();
        let mut tail = (Quote::None, start);
        while let Some(char) = self.peek() {
            let from = self.at;
            match char {
                ' ' | '\t' | '\n' | ';' | '&' | '|' | '<' | '>' => break,
                '(' | ')' => return None,
                '\'' => {
                    self.at += 1;
                    tail = (Quote::Single, self.single(&mut units)?);
                    continue;
                }
                '"' => {
                    self.at += 1;
                    tail = (Quote::Double, self.double(&mut units)?);
                    continue;
                }
                '\\' => {
                    self.at += 1;
                    match self.next() {
                        Some('\n') => {}
                        Some(escaped) => {
                            units.push(self.unit(Kind::Char(escaped), from, Quote::None))
                        }
                        None => return None,
                    }
                }
                '$' | '`' => {
                    let kind = self.expansion(Quote::None)?;
                    units.push(self.unit(kind, from, Quote::None));
                }
                // A home directory, in some places; a pattern is none in an assignment.
                '~' => {
                    self.at += 1;
                    units.push(self.unit(Kind::Unknown, from, Quote::None));
                }
                char => {
                    self.next();
                    units.push(self.unit(Kind::Char(char), from, Quote::None));
                }
            }
            tail = (Quote::None, self.at);
        }
        Some(Word { range: start..self.at, units, tail })
    }

    fn unit(&self, kind: Kind, from: usize, quote: Quote) -> Unit {
        Unit { kind, source: from..self.at, quote }
    }

    /// Reads to the closing single quote, and returns where that is.
    fn single(&mut self, units: &mut Vec<Unit>) -> Option<usize> {
        loop {
            let from = self.at;
            match self.next()? {
                '\'' => return Some(from),
                char => units.push(self.unit(Kind::Char(char), from, Quote::Single)),
            }
        }
    }

    /// Reads to the closing double quote, and returns where that is.
    fn double(&mut self, units: &mut Vec<Unit>) -> Option<usize> {
        loop {
            let from = self.at;
            match self.peek()? {
                '"' => {
                    self.at += 1;
                    return Some(from);
                }
                '\\' => {
                    self.at += 1;
                    match self.peek()? {
                        '\n' => self.at += 1,
                        char @ ('$' | '`' | '"' | '\\') => {
                            self.at += 1;
                            units.push(self.unit(Kind::Char(char), from, Quote::Double));
                        }
                        _ => units.push(self.unit(Kind::Char('\\'), from, Quote::Double)),
                    }
                }
                '$' | '`' => {
                    let kind = self.expansion(Quote::Double)?;
                    units.push(self.unit(kind, from, Quote::Double));
                }
                char => {
                    self.next();
                    units.push(self.unit(Kind::Char(char), from, Quote::Double));
                }
            }
        }
    }

    /// Reads what begins with a dollar or a backtick.
    fn expansion(&mut self, quote: Quote) -> Option<Kind> {
        if self.skip("`") {
            loop {
                match self.next()? {
                    '`' => return Some(Kind::Unknown),
                    '\\' => drop(self.next()?),
                    _ => {}
                }
            }
        }
        self.at += 1;
        match self.peek() {
            Some('{') => {
                self.at += 1;
                let from = self.at;
                self.go_behind('{', '}')?;
                let inside = &self.source[from..self.at - 1];
                Some(if is_name(inside) {
                    Kind::Variable(inside.to_owned())
                } else {
                    Kind::Unknown
                })
            }
            Some('(') => {
                self.at += 1;
                self.go_behind('(', ')')?;
                Some(Kind::Unknown)
            }
            Some(char) if char.is_ascii_alphabetic() || char == '_' => {
                let from = self.at;
                while self.peek().is_some_and(|char| char.is_ascii_alphanumeric() || char == '_') {
                    self.at += 1;
                }
                Some(Kind::Variable(self.source[from..self.at].to_owned()))
            }
            Some(char) if char.is_ascii_digit() || "?*@#$!-".contains(char) => {
                self.at += 1;
                Some(Kind::Unknown)
            }
            // Quotes of bash alone; other shells take the dollar as it is.
            Some('\'' | '"') if quote == Quote::None => Some(Kind::Unknown),
            _ => Some(Kind::Char('$')),
        }
    }

    /// Goes behind the bracket that closes one that was opened. What a comment or a pattern could
    /// hide is not looked into: the bracket is then found too early or too late, and the text
    /// between is unknown all the same.
    fn go_behind(&mut self, open: char, close: char) -> Option<()> {
        let mut depth = 1;
        while depth > 0 {
            match self.next()? {
                '\\' => drop(self.next()?),
                '\'' => while self.next()? != '\'' {},
                '"' => loop {
                    match self.next()? {
                        '"' => break,
                        '\\' => drop(self.next()?),
                        _ => {}
                    }
                },
                char if char == open => depth += 1,
                char if char == close => depth -= 1,
                _ => {}
            }
        }
        Some(())
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_')
        && text.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
}
