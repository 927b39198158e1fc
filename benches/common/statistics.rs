//! What the figures of several rounds say together.

/// The median; zero of none.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

/// The median with so many digits, and in brackets the least and the most; nothing of none.
pub(crate) fn spread(figures: Vec<f64>, digits: usize) -> String {
    if figures.is_empty() {
        return String::new();
    }
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let most = figures.iter().copied().fold(0.0, f64::max);
    format!("{:.digits$} ({least:.2}–{most:.2})", median(figures))
}
