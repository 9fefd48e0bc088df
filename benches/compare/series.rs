//! Figures of several rounds: their median and how far they spread.

use serde::Serialize;

/// One figure per round.
#[derive(Clone, Default, Debug)]
pub(crate) struct Series(Vec<f64>);

/// What a series comes to.
#[derive(Serialize, Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) rounds: usize,
}

impl Series {
    pub(crate) fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    /// Round by round, this over `other`: a disturbance that lasts a round touches both alike.
    pub(crate) fn over(&self, other: &Series) -> Series {
        Series(
            self.0.iter().zip(&other.0).filter(|(_, under)| **under > 0.0).map(|(over, under)| over / under).collect(),
        )
    }

    /// Round by round, this less `other`.
    pub(crate) fn less(&self, other: &Series) -> Series {
        Series(self.0.iter().zip(&other.0).map(|(figure, base)| figure - base).collect())
    }

    /// Nothing for no rounds.
    pub(crate) fn summary(&self) -> Option<Summary> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Some(Summary { median, low, high, rounds: sorted.len() })
    }
}
