#![cfg_attr(fuzzing, no_main)]
//! The target of this name, as a program.

kireji_fuzz::program!(haiku_symbols);
