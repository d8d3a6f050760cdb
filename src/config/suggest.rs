//! "Did you mean …?"

/// Beyond this many characters nobody mistyped one word.
const WORD_MAX: usize = 64;

/// `; did you mean "orders"?`, or nothing when no candidate is near.
pub(super) fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(word, candidates) {
        Some(candidate) => format!("; did you mean \"{candidate}\"?"),
        None => String::new(),
    }
}

fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > WORD_MAX {
        return None;
    }
    let word: Vec<char> = word.to_lowercase().chars().collect();
    let tolerated = (word.len() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= WORD_MAX)
        .map(|candidate| {
            let letters: Vec<char> = candidate.to_lowercase().chars().collect();
            let continues = word.len() >= 3 && letters.starts_with(&word);
            (if continues { 1 } else { distance(&word, &letters) }, candidate)
        })
        .filter(|(distance, _)| *distance <= tolerated)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn one word into the other.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, a) in from.iter().enumerate() {
        let mut next = vec![row + 1];
        for (column, b) in to.iter().enumerate() {
            let mut best = (last[column] + usize::from(a != b))
                .min(last[column + 1] + 1)
                .min(next[column] + 1);
            if row > 0 && column > 0 && *a == to[column - 1] && from[row - 1] == *b {
                best = best.min(before_last[column - 1] + 1);
            }
            next.push(best);
        }
        before_last = std::mem::replace(&mut last, next);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(from: &str, to: &str) -> usize {
        let from: Vec<char> = from.chars().collect();
        let to: Vec<char> = to.chars().collect();
        distance(&from, &to)
    }

    #[test]
    fn a_swap_of_neighbours_is_one_mistake() {
        assert_eq!(measured("ordres", "orders"), 1);
        assert_eq!(measured("ordes", "orders"), 1);
        assert_eq!(measured("", "abc"), 3);
        assert_eq!(measured("same", "same"), 0);
    }

    #[test]
    fn a_near_word_is_offered_and_a_far_one_is_not() {
        let known = ["orders", "billing", "verify-full", "verify-ca"];
        assert_eq!(nearest("ordes", known), Some("orders"));
        assert_eq!(nearest("Billing", known), Some("billing"));
        assert_eq!(nearest("verify-fill", known), Some("verify-full"));
        assert_eq!(nearest("verify", known), Some("verify-full"));
        assert_eq!(nearest("customers", known), None);
        assert_eq!(nearest("x", known), None);
        assert_eq!(nearest(&"x".repeat(5000), known), None);
    }
}
