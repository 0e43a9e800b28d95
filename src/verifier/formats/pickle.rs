//! Pickle, protocols 0 to 5: a program that Python runs while it loads it.
//!
//! What is asked here is whether Python would get as far as importing something and using it. So the program is followed
//! as Python's own unpickler would: where that raises, this ends. What is not modelled (the memo, what an attribute is)
//! is taken for possible.

use super::Problem;
use super::source::{Reader, Source};

/// Most opcodes that are followed, and deepest stack: beyond that a program is taken to be one.
const MAX_STEPS: u32 = 1 << 20;
const MAX_STACK: usize = 1 << 16;
/// Longest line of protocol 0; longer ones are taken to be no pickle.
const MAX_LINE: usize = 4096;

/// What a program of pickle would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Python would raise an error before anything is imported.
    None,
    /// It ends properly, and only holds data.
    Data,
    /// Python would import something and use it.
    Code,
}

/// Whether it begins as every pickle since protocol 2 does.
pub fn claims(head: &[u8]) -> bool {
    matches!(head, [0x80, 2..=5, ..])
}

#[derive(Clone, Copy, PartialEq)]
enum Item {
    Mark,
    Text,
    Other,
}

struct Machine<'a> {
    reader: Reader<'a>,
    stack: Vec<Item>,
    imported: bool,
}

/// What one step led to. `None` stands for an error that Python would raise.
enum Step {
    On,
    Stop,
    Call,
}

/// Follows the programs at the beginning of a source: older files of PyTorch hold several, one after the other.
pub fn follow(source: &dyn Source) -> Result<Program, Problem> {
    let mut machine = Machine { reader: Reader::new(source, 0), stack: Vec::new(), imported: false };
    let mut found = Program::None;
    for _ in 0..MAX_STEPS {
        match machine.step()? {
            None => return Ok(found),
            Some(Step::Stop) if !machine.imported => {
                found = Program::Data;
                machine.stack.clear();
            }
            Some(Step::Stop | Step::Call) => return Ok(Program::Code),
            Some(Step::On) if machine.stack.len() > MAX_STACK => return Ok(Program::Code),
            Some(Step::On) => {}
        }
    }
    Ok(Program::Code)
}

type Outcome = std::io::Result<Option<Step>>;

impl Machine<'_> {
    fn push(&mut self, item: Item) -> Outcome {
        self.stack.push(item);
        Ok(Some(Step::On))
    }

    /// Takes items off the stack; a mark in the way is an error, as there is no item in its place.
    fn pop(&mut self, count: usize) -> Option<()> {
        for _ in 0..count {
            if matches!(self.stack.pop()?, Item::Mark) {
                return None;
            }
        }
        Some(())
    }

    /// Takes everything down to the last mark off the stack.
    fn pop_mark(&mut self) -> Option<usize> {
        let at = self.stack.iter().rposition(|item| *item == Item::Mark)?;
        let count = self.stack.len() - at - 1;
        self.stack.truncate(at);
        Some(count)
    }

    fn replace(&mut self, count: usize, item: Item) -> Outcome {
        match self.pop(count) {
            Some(()) => self.push(item),
            None => Ok(None),
        }
    }

    fn top(&self) -> Option<Item> {
        self.stack.last().copied().filter(|item| *item != Item::Mark)
    }

    fn line(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        loop {
            match self.reader.byte()? {
                None => return Ok(None),
                Some(b'\n') => return Ok(Some(line)),
                Some(_) if line.len() == MAX_LINE => return Ok(None),
                Some(byte) => line.push(byte),
            }
        }
    }

    /// A line of protocol 0 that the test accepts, as an item.
    fn literal(&mut self, item: Item, test: fn(&[u8]) -> bool) -> Outcome {
        match self.line()? {
            Some(line) if test(&line) => self.push(item),
            _ => Ok(None),
        }
    }

    /// A length of `N` bytes and that many bytes, as an item.
    fn counted<const N: usize>(&mut self, item: Item) -> Outcome {
        let Some(bytes) = self.reader.array::<N>()? else { return Ok(None) };
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(&bytes);
        if self.reader.skip(u64::from_le_bytes(wide)) { self.push(item) } else { Ok(None) }
    }

    fn fixed(&mut self, bytes: u64) -> Outcome {
        if self.reader.skip(bytes) { self.push(Item::Other) } else { Ok(None) }
    }

    fn on(&mut self, bytes: u64) -> Outcome {
        Ok(self.reader.skip(bytes).then_some(Step::On))
    }

    /// Module and name, each on a line of its own, that Python could import.
    fn names(&mut self) -> std::io::Result<bool> {
        let (Some(module), Some(name)) = (self.line()?, self.line()?) else { return Ok(false) };
        Ok(is_dotted(&module) && is_dotted(&name))
    }

    fn step(&mut self) -> Outcome {
        let Some(opcode) = self.reader.byte()? else { return Ok(None) };
        match opcode {
            b'.' => Ok(self.top().map(|_| Step::Stop)),
            b'(' => self.push(Item::Mark),
            b'0' => Ok(self.stack.pop().map(|_| Step::On)),
            b'1' => Ok(self.pop_mark().map(|_| Step::On)),
            b'2' => match self.top() {
                Some(item) => self.push(item),
                None => Ok(None),
            },
            b'N' | b')' | b']' | b'}' | 0x88 | 0x89 | 0x8f => self.push(Item::Other),
            b'I' | b'L' | b'F' => self.literal(Item::Other, is_number),
            b'S' => self.literal(Item::Text, is_quoted),
            b'V' => self.literal(Item::Text, |_| true),
            b'P' => self.literal(Item::Other, |_| true),
            b'J' => self.fixed(4),
            b'K' => self.fixed(1),
            b'M' => self.fixed(2),
            b'G' => self.fixed(8),
            b'U' | 0x8c => self.counted::<1>(Item::Text),
            b'T' | b'X' => self.counted::<4>(Item::Text),
            0x8d => self.counted::<8>(Item::Text),
            b'C' | 0x8a => self.counted::<1>(Item::Other),
            b'B' | 0x8b => self.counted::<4>(Item::Other),
            0x8e | 0x96 => self.counted::<8>(Item::Other),
            0x80 => Ok(self.reader.byte()?.filter(|version| *version <= 5).map(|_| Step::On)),
            0x95 => self.on(8),
            b'Q' => self.replace(1, Item::Other),
            0x97 => self.push(Item::Other),
            0x98 => Ok(self.top().map(|_| Step::On)),
            // The memo.
            b'p' => Ok(self.line()?.and_then(|_| self.top()).map(|_| Step::On)),
            b'q' => Ok(self.reader.byte()?.and_then(|_| self.top()).map(|_| Step::On)),
            b'r' => Ok(self.reader.array::<4>()?.and_then(|_| self.top()).map(|_| Step::On)),
            0x94 => Ok(self.top().map(|_| Step::On)),
            b'g' => self.literal(Item::Text, is_number),
            b'h' => Ok(self.reader.byte()?).and_then(|index| self.remembered(index.is_some())),
            b'j' => Ok(self.reader.array::<4>()?).and_then(|index| self.remembered(index.is_some())),
            // Collections.
            b't' | b'l' | b'd' | 0x91 => match self.pop_mark() {
                Some(_) => self.push(Item::Other),
                None => Ok(None),
            },
            0x85 => self.replace(1, Item::Other),
            0x86 => self.replace(2, Item::Other),
            0x87 => self.replace(3, Item::Other),
            b'a' => Ok(self.pop(1).and_then(|()| self.top()).map(|_| Step::On)),
            b's' => Ok(self.pop(2).and_then(|()| self.top()).map(|_| Step::On)),
            b'e' | b'u' | 0x90 => Ok(self.pop_mark().and_then(|_| self.top()).map(|_| Step::On)),
            // What imports.
            b'c' => {
                if !self.names()? {
                    return Ok(None);
                }
                self.imported = true;
                self.push(Item::Other)
            }
            0x93 => {
                let texts = self.stack.pop() == Some(Item::Text) && self.stack.pop() == Some(Item::Text);
                if !texts {
                    return Ok(None);
                }
                self.imported = true;
                self.push(Item::Other)
            }
            0x82..=0x84 => {
                self.imported = true;
                self.fixed(1 << (opcode - 0x82))
            }
            // What calls.
            b'i' => Ok((self.names()? && self.pop_mark().is_some()).then_some(Step::Call)),
            b'o' => Ok(self.pop_mark().filter(|count| *count > 0).and_then(|_| self.call())),
            b'R' | 0x81 => Ok(self.pop(2).and_then(|()| self.call())),
            0x92 => Ok(self.pop(3).and_then(|()| self.call())),
            b'b' => Ok(self.pop(1).and_then(|()| self.top()).and_then(|_| self.call())),
            _ => Ok(None),
        }
    }

    /// An item of the memo may be anything, a text too.
    fn remembered(&mut self, present: bool) -> Outcome {
        if present { self.push(Item::Text) } else { Ok(None) }
    }

    /// A call can only be of what was imported.
    fn call(&self) -> Option<Step> {
        self.imported.then_some(Step::Call)
    }
}

fn is_dotted(name: &[u8]) -> bool {
    let Ok(name) = std::str::from_utf8(name) else { return false };
    name.split('.').all(|step| {
        let mut characters = step.chars();
        characters.next().is_some_and(|first| first.is_alphabetic() || first == '_')
            && characters.all(|next| next.is_alphanumeric() || next == '_')
    })
}

fn is_number(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    !line.is_empty()
        && line.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_'))
        && line.iter().any(|byte| byte.is_ascii_digit() || matches!(byte, b'n' | b'N'))
}

fn is_quoted(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    matches!(line, [b'"', .., b'"'] | [b'\'', .., b'\'']) && line.len() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(bytes: &[u8]) -> Program {
        follow(&bytes).unwrap()
    }

    #[test]
    fn code_is_found_in_every_protocol() {
        for bytes in [
            b"cos\nsystem\n(S'id'\ntR.".as_slice(),
            b"(S'id'\nios\nsystem\n.",
            b"(cos\nsystem\nS'id'\no.",
            b"\x80\x02cos\nsystem\nq\x00X\x02\x00\x00\x00idq\x01\x85q\x02Rq\x03.",
            b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.",
            // A string that is swallowed ahead of it.
            b"X\x05\x00\x00\x00{\x00\x00\x00\x000cos\nsystem\n(S'id'\ntR.",
            // The first program only holds data.
            b"\x80\x02\x8a\x01\x05.\x80\x02cos\nsystem\n)R.",
            // What follows the call is of no account.
            b"cos\nsystem\n(S'id'\ntR\xff\xff",
        ] {
            assert_eq!(program(bytes), Program::Code, "{:?}", bytes.escape_ascii().to_string());
        }
    }

    #[test]
    fn data_and_what_is_no_pickle_are_told_apart() {
        for (bytes, expected) in [
            (b"N.".as_slice(), Program::Data),
            (b"(lp0\nI1\na.", Program::Data),
            (b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s.", Program::Data),
            (b"{\"a\": 1}", Program::None),
            (b"", Program::None),
            (b"cat\ndog\nbird\n", Program::None),
            // Without anything on the stack nothing is imported.
            (b"\x88\x93", Program::None),
            (b"\x88R.", Program::None),
        ] {
            assert_eq!(program(bytes), expected, "{:?}", bytes.escape_ascii().to_string());
        }
    }
}
