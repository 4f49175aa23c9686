//! What is known of a panic.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

use super::title;

/// A panic, or another way into the kernel's debugger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Panic {
    /// What happened and where, without anything that changes from one time to the next: the same
    /// defect has the same title again.
    pub title: String,
    /// What kind of thing happened.
    pub kind: Kind,
    /// Whether the report is not to be trusted as a whole: it is cut short, or something is missing
    /// from it or mixed into it. The guilty frame is then a guess.
    pub corrupted: bool,
    /// Why it is not to be trusted.
    pub damage: Vec<Damage>,
    /// What the kernel said, to the letter; `None` where it said nothing or it is lost.
    pub message: Option<String>,
    /// What is to be said of the address that was touched, in sentences.
    pub explanation: Vec<String>,
    /// The frame that is to be looked at first; `None` where no trace shows it.
    pub guilty: Option<Frame>,
    /// Every frame of the thread, the innermost first.
    pub frames: Vec<Frame>,
    /// Frames that were left out after those, for there were too many.
    pub more_frames: usize,
    /// The registers at the moment of the exception, by their names; of nothing but an exception.
    #[serde(serialize_with = "hex_map")]
    pub registers: BTreeMap<String, u64>,
    /// The thread that was running.
    pub thread: Option<Thread>,
    /// The processor that it ran on.
    pub cpu: Option<u32>,
    /// The kernel's revision.
    pub revision: Option<String>,
    /// Traces of other threads that were asked for.
    pub other_threads: Vec<Trace>,
}

/// A thread of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Thread {
    /// Its number.
    pub id: i32,
    /// Its name.
    pub name: String,
}

/// The frames of one thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// Whose they are.
    pub thread: Thread,
    /// The innermost first.
    pub frames: Vec<Frame>,
}

/// One frame of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Frame {
    /// The image that its code is of, as the kernel names it: the path that it was loaded from.
    pub image: Option<String>,
    /// The function, if its name is known for certain.
    pub symbol: Option<String>,
    /// A function before it that the image exports, where its own name is not in the image.
    pub nearest_symbol: Option<String>,
    /// Bytes from where the image begins to the address, if it is known where that is.
    pub offset: Option<u64>,
    /// Where the code was, when it ran. It is the address that a call returns to, unless
    /// [`Self::is_exact`].
    #[serde(serialize_with = "hex")]
    pub address: u64,
    /// The source file.
    pub file: Option<String>,
    /// The line in it, from one on.
    pub line: Option<u32>,
    /// Functions that the compiler put into this one and that were running, the innermost first.
    pub inlined: Vec<Inlined>,
    /// Bytes from where [`Self::symbol`] or [`Self::nearest_symbol`] begins.
    pub symbol_offset: Option<u64>,
    /// Whether the address is that of the instruction which was interrupted.
    #[serde(rename = "exact")]
    pub is_exact: bool,
    /// Whether it is of a program rather than of the kernel.
    #[serde(rename = "user")]
    pub is_user: bool,
    /// Where the frame is on the stack.
    #[serde(serialize_with = "hex")]
    pub frame_pointer: u64,
    /// The area of memory that the address is in, where it is in no image.
    pub area: Option<String>,
}

/// A function that was put into another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inlined {
    /// Its name.
    pub symbol: Option<String>,
    /// The source file in which it was running.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
    /// Where the function that it was put into calls it.
    pub called_from: Place,
}

/// A place in the source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The source file.
    pub file: Option<String>,
    /// The line in it, from one on.
    pub line: Option<u32>,
}

impl Panic {
    /// Gives it the title that its guilty frame asks for, which may have got a name.
    pub(crate) fn rename(&mut self) {
        self.title = title::title(self.message.as_deref(), self.kind, self.guilty.as_ref());
    }
}

impl Frame {
    /// Whether its code is of the kernel itself rather than of an add-on.
    pub fn is_kernel(&self) -> bool {
        self.image.as_deref().is_some_and(is_kernel)
    }

    /// The last part of the image's path.
    pub fn image_name(&self) -> Option<&str> {
        self.image.as_deref().map(leaf)
    }

    /// The name of the function without its arguments, if it is known for certain.
    pub fn function(&self) -> Option<&str> {
        self.symbol.as_deref().map(without_arguments)
    }
}

/// Whether an image is the kernel: `kernel_x86_64`, or that of another architecture.
pub(super) fn is_kernel(image: &str) -> bool {
    image.starts_with("kernel_")
}

/// The last part of a path.
pub(super) fn leaf(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A function's name without its arguments.
pub(crate) fn without_arguments(name: &str) -> &str {
    // `operator()(int)` and `(anonymous namespace)::f()` have more than those.
    match name.rfind('(') {
        Some(at) if at > 0 && name.ends_with([')', 't']) => name[..at].trim_end(),
        _ => name,
    }
}

/// Why a report is not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    /// The log ends before the report does.
    CutShort,
    /// The report begins in its middle.
    NoBeginning,
    /// What the kernel said is missing.
    NoMessage,
    /// Lines that every report has are missing.
    MissingLines,
    /// Frames are missing, or are not in their order.
    MissingFrames,
    /// Something else is between its lines or in them.
    Mixed,
    /// There are characters in it that the kernel does not write.
    Characters,
    /// What it says in one place contradicts another.
    Contradiction,
    /// It does not say where the panic or the exception happened.
    NoCause,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CutShort => "the log ends before the report does",
            Self::NoBeginning => "the beginning of the report is missing",
            Self::NoMessage => "what the kernel said is missing",
            Self::MissingLines => "lines of the report are missing",
            Self::MissingFrames => "frames are missing, or not in their order",
            Self::Mixed => "something else is mixed into the report",
            Self::Characters => "there are characters in the report that the kernel does not write",
            Self::Contradiction => "the report contradicts itself",
            Self::NoCause => "the frame in which it happened is missing",
        })
    }
}

impl Serialize for Damage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Memory was touched that is not there, or not to be touched so.
    PageFault,
    /// The processor refused an instruction or an address.
    GeneralProtection,
    /// A division by zero, or with a result that is too large.
    DivideError,
    /// The processor does not know the instruction.
    InvalidOpcode,
    /// An `int3`.
    Breakpoint,
    /// A fault while a fault was handled; most often the stack is full.
    DoubleFault,
    /// An interrupt that cannot be masked: from outside, or by broken hardware.
    Nmi,
    /// Another exception of the processor.
    Exception,
    /// An assertion does not hold.
    Assertion,
    /// A lock is used wrongly, or waited for without end.
    Lock,
    /// The kernel's heap was used wrongly.
    Heap,
    /// Code waited where it must not.
    Blocking,
    /// There is nothing to boot from.
    NoBootVolume,
    /// A panic of another kind.
    Panic,
    /// The debugger was entered without a panic.
    Debugger,
}

impl Kind {
    /// Whether the processor noticed it, so that registers tell where.
    pub fn is_exception(self) -> bool {
        matches!(
            self,
            Self::PageFault
                | Self::GeneralProtection
                | Self::DivideError
                | Self::InvalidOpcode
                | Self::Breakpoint
                | Self::DoubleFault
                | Self::Nmi
                | Self::Exception
        )
    }
}

fn hex<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{number:#x}"))
}

fn hex_map<S: Serializer>(map: &BTreeMap<String, u64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(map.iter().map(|(name, value)| (name, format!("{value:#x}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        for (name, expected) in [
            ("panic", "panic"),
            ("panic()", "panic"),
            ("common_user_io(int, long, void*, unsigned long, bool)", "common_user_io"),
            ("ExpressionParser::_ParseCommandPipe(int&)", "ExpressionParser::_ParseCommandPipe"),
            ("Directory::Lookup(char const*) const", "Directory::Lookup"),
            ("", ""),
        ] {
            assert_eq!(without_arguments(name), expected);
        }
        assert_eq!(leaf("/boot/system/add-ons/kernel/drivers/dev/misc/crash"), "crash");
        assert_eq!(leaf("bfs"), "bfs");
        assert!(is_kernel("kernel_x86_64") && !is_kernel("/boot/kernel_x86_64/crash"));
    }
}
