//! Words of others, as they may stand in a log or a status.

/// Longest part of an answer that is repeated: one from somebody unexpected may be a whole page.
const MAX_QUOTED_CHARS: usize = 300;

/// Words of others, short and in one line.
#[must_use]
pub fn quoted(text: &str) -> String {
    printable(text, MAX_QUOTED_CHARS)
}

/// The first `max_chars` characters of a text, without control characters.
#[must_use]
pub fn printable(text: &str, max_chars: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(max_chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_others_neither_fill_a_page_nor_steer_a_terminal() {
        assert_eq!(quoted("a\x1b[31m\nbé"), "a[31mbé");
        assert_eq!(quoted(&"é".repeat(1000)), "é".repeat(300));
        assert_eq!(printable("\rabc", 2), "ab");
    }
}
