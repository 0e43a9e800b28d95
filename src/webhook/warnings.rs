//! Warnings as the API server passes them on: single lines without control characters, 256 characters each at most.

const LIMIT: usize = 256;

/// Rule id at the head of a text, such as `WL-101` of `[WL-101] volume …`.
pub fn rule_of(text: &str) -> Option<&str> {
    let id = text.strip_prefix('[')?.split_once(']')?.0;
    id.starts_with("WL-").then_some(id)
}

/// Texts cut into warnings that arrive whole. Each part of a text repeats its rule id.
pub fn split(texts: &[String]) -> Vec<String> {
    texts.iter().flat_map(|text| split_one(text)).collect()
}

fn split_one(text: &str) -> Vec<String> {
    let head = rule_of(text).map(|id| format!("[{id}] ")).unwrap_or_default();
    let body = text.strip_prefix(head.trim_end()).unwrap_or(text);
    let room = LIMIT.saturating_sub(head.chars().count());
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut used = 0;
    let clean: String = body.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    for word in clean.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        if used > 0 && used + 1 + word.len() > room {
            parts.push(std::mem::take(&mut part));
            used = 0;
        }
        // A word longer than a warning is cut where it must be.
        while word.len() > room {
            parts.push(word.drain(..room).collect());
        }
        if used > 0 {
            part.push(' ');
            used += 1;
        }
        used += word.len();
        part.extend(word);
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts.into_iter().map(|part| format!("{head}{part}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_one_and_the_id_comes_first() {
        let texts = ["[WL-204] container \"nb\" is privileged.\n         Remedy: remove\tit.".to_owned()];
        assert_eq!(split(&texts), ["[WL-204] container \"nb\" is privileged. Remedy: remove it."]);
    }

    #[test]
    fn a_long_text_is_cut_between_words_and_each_part_has_the_id() {
        let text = format!("[WL-101] {}", "wörd ".repeat(120));
        let parts = split(std::slice::from_ref(&text));
        assert!(parts.len() > 2);
        for part in &parts {
            assert!(part.chars().count() <= LIMIT, "{part}");
            assert!(part.starts_with("[WL-101] wörd"), "{part}");
            assert!(part.ends_with("wörd"), "{part}");
        }
        let words: usize = parts.iter().map(|p| p.matches("wörd").count()).sum();
        assert_eq!(words, 120);
    }

    #[test]
    fn a_word_without_end_is_cut_and_loses_nothing() {
        let text = "x".repeat(600);
        let parts = split(std::slice::from_ref(&text));
        assert!(parts.iter().all(|p| p.chars().count() <= LIMIT));
        assert_eq!(parts.concat(), text);
    }

    #[test]
    fn a_text_without_a_rule_passes_as_it_is() {
        assert_eq!(split(&["plain".into()]), ["plain"]);
        assert_eq!(rule_of("[note] x"), None);
        assert_eq!(split(&[String::new()]), Vec::<String>::new());
    }
}
