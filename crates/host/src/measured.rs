//! Values that may not have been measurable.

use serde::{Deserialize, Serialize};

/// A value that was read, or the reason why it could not be.
///
/// An unmeasured value is never replaced by a guess. In JSON it is `{"unmeasured": "why"}`, and a
/// known value is itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Measured<T> {
    /// The value could not be read.
    Unmeasured {
        /// Why, and where useful what it would take.
        unmeasured: String,
    },
    /// The value that was read.
    Known(T),
}

impl<T> Measured<T> {
    /// Returns an unmeasured value with its reason.
    pub fn unmeasured(why: impl Into<String>) -> Self {
        Self::Unmeasured { unmeasured: why.into() }
    }

    /// Returns the value if it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unmeasured { .. } => None,
        }
    }

    /// Applies `f` to a known value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Measured<U> {
        match self {
            Self::Known(value) => Measured::Known(f(value)),
            Self::Unmeasured { unmeasured } => Measured::Unmeasured { unmeasured },
        }
    }
}

impl<T, E: std::fmt::Display> From<Result<T, E>> for Measured<T> {
    fn from(result: Result<T, E>) -> Self {
        match result {
            Ok(value) => Self::Known(value),
            Err(error) => Self::unmeasured(error.to_string()),
        }
    }
}
