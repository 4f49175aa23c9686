//! Whether a file is what its publisher says.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use minisign_verify::{PublicKey, Signature};
use sha2::{Digest, Sha256};

use crate::web::Web;
use crate::{FetchError, file_failed};

/// The key that releases of Haiku are signed with (data/trust_db/haiku-2019.pub of Haiku, and the
/// pages of its releases).
pub const HAIKU_KEY: &str = "RWTPfbfFRi5b+T02aw733p5dp/UI/1Z946YWBInmkPmBlx2Zy1Vyw9kP";

/// Bytes of a file with a hash or a signature.
const LARGEST: u64 = 1 << 16;

/// What was compared.
pub(crate) struct Check {
    pub(crate) sha256: String,
    pub(crate) hash_checked: bool,
    pub(crate) signature_checked: bool,
}

/// Compares a file with the SHA-256 and the signature that are published beside it.
pub(crate) fn check(
    web: &Web,
    url: &str,
    file: &Path,
    key: &str,
    must_sign: bool,
) -> Result<Check, FetchError> {
    let wrong = |problem: String| FetchError::Wrong { url: url.to_owned(), problem };
    let published = web.text(&format!("{url}.sha256"), LARGEST)?;
    let signature = web.text(&format!("{url}.minisig"), LARGEST)?;
    if signature.is_none() && must_sign {
        return Err(FetchError::Unsigned { url: url.to_owned() });
    }
    let signature = signature
        .map(|text| Signature::decode(&text).map_err(|e| wrong(format!("its signature: {e}"))))
        .transpose()?;
    let key = PublicKey::from_base64(key).map_err(|e| wrong(format!("the public key: {e}")))?;
    let mut verifier = signature
        .as_ref()
        .map(|signature| {
            key.verify_stream(signature).map_err(|e| wrong(format!("its signature: {e}")))
        })
        .transpose()?;
    let mut hash = Sha256::new();
    let mut reader = File::open(file).map_err(file_failed("read", file))?;
    let mut piece = vec![0; 1 << 20];
    loop {
        let length = reader.read(&mut piece).map_err(file_failed("read", file))?;
        if length == 0 {
            break;
        }
        hash.update(&piece[..length]);
        if let Some(verifier) = &mut verifier {
            verifier.update(&piece[..length]);
        }
    }
    let sha256: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(text) = &published {
        let wanted = published_hash(text)
            .ok_or_else(|| wrong("its published SHA-256 cannot be read".to_owned()))?;
        if !wanted.eq_ignore_ascii_case(&sha256) {
            return Err(wrong(format!("its SHA-256 is {sha256}, published is {wanted}")));
        }
    }
    if let Some(verifier) = &mut verifier {
        verifier.finalize().map_err(|e| wrong(format!("its signature: {e}")))?;
    }
    let (hash_checked, signature_checked) = (published.is_some(), signature.is_some());
    Ok(Check { sha256, hash_checked, signature_checked })
}

/// The hash in a file of one: `HASH  NAME` as sha256sum writes it, or `SHA256 (NAME) = HASH`.
fn published_hash(text: &str) -> Option<&str> {
    let line = text.lines().find(|line| !line.trim().is_empty())?;
    let is_hash =
        |word: &&str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut words = line.split_whitespace();
    if line.starts_with("SHA256 (") {
        words.next_back().filter(is_hash)
    } else {
        words.next().filter(is_hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_read_in_both_forms() {
        let hash = "22ae312a38e98083718b6984186e753d15806bd6ea44542144fdcef42c4dcb69";
        for text in [
            format!("{hash}\n"),
            format!("{hash}  haiku.iso\n"),
            format!("{hash} *haiku.iso"),
            format!("\nSHA256 (haiku r1.iso) = {hash}\n"),
        ] {
            assert_eq!(published_hash(&text), Some(hash), "{text}");
        }
        for bad in [String::new(), "<html>".to_owned(), hash[1..].to_owned(), format!("x {hash}")] {
            assert_eq!(published_hash(&bad), None, "{bad}");
        }
    }

    #[test]
    fn the_key_of_haiku_is_one() {
        assert!(PublicKey::from_base64(HAIKU_KEY).is_ok());
    }
}
