//! haiku
