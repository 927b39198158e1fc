//! Base64 and PEM around keys: bounded when read, without stray copies when written.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::error::KeyError;

/// Most bytes of any input. The longest key supported takes a tenth of it.
pub(crate) const MAX_INPUT: usize = 64 * 1024;

/// Decodes base64, whatever white space was put into it.
pub(crate) fn decode_base64(data: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    if data.len() > MAX_INPUT {
        return Err(KeyError::TooLong);
    }
    let mut dense = Zeroizing::new(Vec::with_capacity(data.len()));
    dense.extend(data.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    STANDARD.decode(&*dense).map(Zeroizing::new).map_err(|_| KeyError::NotBase64)
}

/// The kinds of PEM block that are accepted in one place.
pub(crate) struct Wanted {
    /// The labels, as in `-----BEGIN LABEL-----`.
    pub(crate) labels: &'static [&'static str],
    /// The same in words, for errors.
    pub(crate) description: &'static str,
}

/// One PEM block, decoded.
pub(crate) struct Block {
    pub(crate) label: &'static str,
    pub(crate) der: Zeroizing<Vec<u8>>,
}

/// The first block of a wanted kind. Other blocks may stand before it, as in the output of `openssl ecparam`
/// or in a file with a certificate and its key.
pub(crate) fn parse_pem(text: &[u8], wanted: &Wanted) -> Result<Block, KeyError> {
    Ok(parse_pem_blocks(text, wanted)?.swap_remove(0))
}

/// All blocks of a wanted kind, at least one.
pub(crate) fn parse_pem_blocks(text: &[u8], wanted: &Wanted) -> Result<Vec<Block>, KeyError> {
    if text.len() > MAX_INPUT {
        return Err(KeyError::TooLong);
    }
    let blocks = pem::parse_many(text).map_err(|_| KeyError::BrokenPem)?;
    let Some(first) = blocks.first() else {
        // The parser passes over a block without an end.
        let begins = text.windows(10).any(|window| window == b"-----BEGIN");
        return Err(if begins {
            KeyError::BrokenPem
        } else {
            KeyError::NoPem { wanted: wanted.description }
        });
    };
    let mut found = Vec::new();
    for block in &blocks {
        let Some(label) = wanted.labels.iter().copied().find(|label| *label == block.tag()) else { continue };
        // How a PKCS#1 block says that it is encrypted (RFC 1421 section 4.6.1.1).
        if block.headers().get("Proc-Type").is_some_and(|kind| kind.contains("ENCRYPTED")) {
            return Err(KeyError::Encrypted);
        }
        found.push(Block { label, der: Zeroizing::new(block.contents().to_vec()) });
    }
    if found.is_empty() {
        return Err(match first.tag() {
            "ENCRYPTED PRIVATE KEY" => KeyError::Encrypted,
            found => {
                KeyError::WrongBlock { found: found.chars().take(64).collect(), wanted: wanted.description }
            }
        });
    }
    Ok(found)
}

/// Lines of 64 characters and a newline at the end, byte for byte what Go's `pem.Encode` writes: hashes of this
/// text are compared between domains.
pub(crate) fn to_pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    const LINE: usize = 64;
    let body = Zeroizing::new(STANDARD.encode(der));
    // Reserved at once, because growing would leave copies of the key behind.
    let size = body.len() + body.len() / LINE + 2 * label.len() + LINE;
    let mut text = Zeroizing::new(String::with_capacity(size));
    text.extend(["-----BEGIN ", label, "-----\n"]);
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        text.extend([line, "\n"]);
        rest = after;
    }
    text.extend(["-----END ", label, "-----\n"]);
    text
}
