//! Answers as classes, in which servers can be compared: a code's first digit, or whether it was granted.

/// The classes of what was answered; `bye` where that was nothing but a farewell.
pub fn of_words(words: &[String]) -> Vec<String> {
    match words {
        [] => vec!["bye".into()],
        words => words.iter().map(|word| of_word(word)).collect(),
    }
}

/// The classes that a pattern of answers allows; see [`crate::answer::matches`].
pub fn of_pattern(pattern: &str) -> String {
    let of_place = |place: &str| {
        let (place, many) = place.strip_suffix('*').map_or((place, ""), |place| (place, "*"));
        let mut classes: Vec<String> = place.split('|').map(of_word).collect();
        classes.dedup();
        classes.join("|") + many
    };
    pattern.split_whitespace().map(of_place).collect::<Vec<_>>().join(" ")
}

/// Alike words beside each other as one with a star, so that answers to thousands of commands can be shown.
pub fn shown(classes: &[String]) -> String {
    let mut shown: Vec<String> = Vec::new();
    for group in classes.chunk_by(|left, right| left == right) {
        match group {
            [] => {}
            [only] => shown.push(only.clone()),
            [first, second] => shown.extend([first.clone(), second.clone()]),
            [first, ..] => shown.push(format!("{first}*")),
        }
    }
    shown.join(" ")
}

/// IMAP's NO and BAD are both refusals: which of them a mistake gets is told apart by no client.
fn of_word(word: &str) -> String {
    match word.as_bytes() {
        [digit @ b'1'..=b'5', _, _] => format!("{}xx", char::from(*digit)),
        _ if matches!(word, "NO" | "BAD") => "NO".into(),
        _ => word.into(),
    }
}
