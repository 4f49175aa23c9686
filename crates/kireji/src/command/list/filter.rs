//! Which functions `kireji list` shows.

use pci::{Function, Names};

/// What must hold of a function for it to be listed; several options must hold together.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Only those")]
pub struct Filter {
    /// Of a class: its number (03, 0300), or a part of its name (ethernet)
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// On a driver; `none` for those without one
    #[arg(long, value_name = "DRIVER")]
    driver: Option<String>,
    /// In an IOMMU group; `none` for those in none
    #[arg(long, value_name = "GROUP", value_parser = group)]
    group: Option<Group>,
    /// Of a vendor: its number (8086), or a part of its name (intel)
    #[arg(long, value_name = "VENDOR")]
    vendor: Option<String>,
}

/// A group, or its lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Group(Option<u32>);

fn group(text: &str) -> Result<Group, String> {
    match text {
        "none" => Ok(Group(None)),
        number => number
            .parse()
            .map(|number| Group(Some(number)))
            .map_err(|_| "neither a number nor `none`".to_owned()),
    }
}

impl Filter {
    /// Whether a function is listed.
    pub(super) fn holds(&self, names: &Names, function: &Function) -> bool {
        let class = function.class.to_string();
        let vendor = format!("{:04x}", function.ids.vendor);
        self.class.as_ref().is_none_or(|wanted| {
            is_number(wanted) && class.starts_with(&wanted.to_lowercase())
                || is_part(wanted, names.class(function.class))
        }) && self.vendor.as_ref().is_none_or(|wanted| {
            wanted.eq_ignore_ascii_case(&vendor)
                || is_part(wanted, names.vendor(function.ids.vendor))
        }) && self.driver.as_ref().is_none_or(|wanted| match &function.driver {
            Some(driver) => wanted == driver,
            None => wanted == "none",
        }) && self.group.is_none_or(|Group(wanted)| wanted == function.group)
    }
}

/// A class is named by two, four or six digits.
fn is_number(text: &str) -> bool {
    matches!(text.len(), 2 | 4 | 6) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_part(wanted: &str, name: Option<&str>) -> bool {
    name.is_some_and(|name| name.to_lowercase().contains(&wanted.to_lowercase()))
}
