//! Unified diffs of two texts, line by line (Myers, "An O(ND) Difference Algorithm and Its Variations"). Pure.

use std::fmt::Write as _;

/// Lines around a change.
const AROUND: usize = 3;
/// Edits beyond which the lines in between are shown as replaced: it bounds time and memory, not correctness.
const MAX_EDITS: usize = 1000;

/// A line of a diff.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edit<'t> {
    Same(&'t str),
    Gone(&'t str),
    New(&'t str),
}

/// The difference as `diff -u` writes it, under `--- before` and `+++ after`; empty when there is none.
pub fn unified(before: &str, after: &str, names: (&str, &str)) -> String {
    let edits = edits(&lines(before), &lines(after));
    let changed: Vec<usize> =
        edits.iter().enumerate().filter(|(_, edit)| !matches!(edit, Edit::Same(_))).map(|(at, _)| at).collect();
    let mut text = String::new();
    let (Some(first), rest) = (changed.first(), changed.iter()) else { return text };
    write!(text, "--- {}\n+++ {}\n", names.0, names.1).expect("a String takes all");
    // Hunks: runs of changes with no more than twice the lines around between them.
    let mut start = *first;
    let mut end = *first;
    for at in rest {
        if *at > end + 2 * AROUND + 1 {
            hunk(&mut text, &edits, start, end);
            start = *at;
        }
        end = *at;
    }
    hunk(&mut text, &edits, start, end);
    text
}

/// With what ends each: a last one without an end is another line.
fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

fn hunk(text: &mut String, edits: &[Edit<'_>], start: usize, end: usize) {
    let (start, end) = (start.saturating_sub(AROUND), (end + 1 + AROUND).min(edits.len()));
    let count = |edits: &[Edit<'_>]| {
        let old = edits.iter().filter(|edit| !matches!(edit, Edit::New(_))).count();
        let new = edits.iter().filter(|edit| !matches!(edit, Edit::Gone(_))).count();
        (old, new)
    };
    let (old_before, new_before) = count(&edits[..start]);
    let (old, new) = count(&edits[start..end]);
    // An empty side is told by the line before it (POSIX diff -u).
    let first = |before: usize, length: usize| if length == 0 { before } else { before + 1 };
    let (old_at, new_at) = (first(old_before, old), first(new_before, new));
    writeln!(text, "@@ -{old_at},{old} +{new_at},{new} @@").expect("a String takes all");
    for edit in &edits[start..end] {
        let (sign, line) = match edit {
            Edit::Same(line) => (' ', line),
            Edit::Gone(line) => ('-', line),
            Edit::New(line) => ('+', line),
        };
        write!(text, "{sign}{line}").expect("a String takes all");
        if !line.ends_with('\n') {
            text.push_str("\n\\ No newline at end of file\n");
        }
    }
}

fn edits<'t>(before: &[&'t str], after: &[&'t str]) -> Vec<Edit<'t>> {
    let head = before.iter().zip(after).take_while(|(a, b)| a == b).count();
    let most = before.len().min(after.len()) - head;
    let tail = before.iter().rev().zip(after.iter().rev()).take(most).take_while(|(a, b)| a == b).count();
    let mut edits: Vec<Edit<'t>> = before[..head].iter().map(|line| Edit::Same(line)).collect();
    edits.extend(myers(&before[head..before.len() - tail], &after[head..after.len() - tail]));
    edits.extend(before[before.len() - tail..].iter().map(|line| Edit::Same(line)));
    edits
}

fn myers<'t>(before: &[&'t str], after: &[&'t str]) -> Vec<Edit<'t>> {
    let (n, m) = (before.len() as isize, after.len() as isize);
    let limit = before.len().saturating_add(after.len()).min(MAX_EDITS) as isize;
    let index = |k: isize| (k + limit + 1) as usize;
    // The furthest line of `before` reached on each diagonal, with so many edits: one copy per number of edits.
    let mut furthest = vec![0isize; 2 * limit as usize + 3];
    let mut trace: Vec<Vec<isize>> = Vec::new();
    for d in 0..=limit {
        trace.push(furthest[index(-d - 1)..=index(d + 1)].to_vec());
        for k in (-d..=d).step_by(2) {
            let down = k == -d || (k != d && furthest[index(k - 1)] < furthest[index(k + 1)]);
            let mut x = if down { furthest[index(k + 1)] } else { furthest[index(k - 1)] + 1 };
            while x < n && x - k < m && x >= 0 && x - k >= 0 && before[x as usize] == after[(x - k) as usize] {
                x += 1;
            }
            furthest[index(k)] = x;
            if x >= n && x - k >= m {
                return back(before, after, &trace);
            }
        }
    }
    let gone = before.iter().map(|line| Edit::Gone(line));
    gone.chain(after.iter().map(|line| Edit::New(line))).collect()
}

/// Walks the trace back from the end.
fn back<'t>(before: &[&'t str], after: &[&'t str], trace: &[Vec<isize>]) -> Vec<Edit<'t>> {
    let (mut x, mut y) = (before.len() as isize, after.len() as isize);
    let mut edits = Vec::new();
    for (d, furthest) in trace.iter().enumerate().rev() {
        let d = d as isize;
        let reached = |k: isize| furthest[(k + d + 1) as usize];
        let k = x - y;
        let down = k == -d || (k != d && reached(k - 1) < reached(k + 1));
        let from_k = if down { k + 1 } else { k - 1 };
        let (from_x, from_y) = if d == 0 { (0, 0) } else { (reached(from_k), reached(from_k) - from_k) };
        while x > from_x && y > from_y {
            (x, y) = (x - 1, y - 1);
            edits.push(Edit::Same(before[x as usize]));
        }
        if d > 0 {
            if down {
                y -= 1;
                edits.push(Edit::New(after[y as usize]));
            } else {
                x -= 1;
                edits.push(Edit::Gone(before[x as usize]));
            }
        }
    }
    edits.reverse();
    edits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_reads_as_diff_writes_it() {
        let before = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\nm\n";
        let after = "a\nB\nc\nd\ne\nf\ng\nh\ni\nj\nk\nm\nn\n";
        let expected =
            "--- old\n+++ new\n@@ -1,5 +1,5 @@\n a\n-b\n+B\n c\n d\n e\n@@ -9,5 +9,5 @@\n i\n j\n k\n-l\n m\n+n\n";
        assert_eq!(unified(before, after, ("old", "new")), expected);
        assert_eq!(unified(before, before, ("old", "new")), "");
        assert_eq!(unified("", "a\n", ("old", "new")), "--- old\n+++ new\n@@ -0,0 +1,1 @@\n+a\n");
        assert_eq!(unified("a\n", "", ("old", "new")), "--- old\n+++ new\n@@ -1,1 +0,0 @@\n-a\n");
        let expected = "--- old\n+++ new\n@@ -1,2 +1,2 @@\n-a\n+b\n c\n\\ No newline at end of file\n";
        assert_eq!(unified("a\nc", "b\nc", ("old", "new")), expected);
        let expected = "--- old\n+++ new\n@@ -1,1 +1,1 @@\n-a\n\\ No newline at end of file\n+a\n";
        assert_eq!(unified("a", "a\n", ("old", "new")), expected);
    }

    fn sides(edits: &[Edit<'_>]) -> (Vec<String>, Vec<String>) {
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for edit in edits {
            match edit {
                Edit::Same(line) => {
                    old.push((*line).to_owned());
                    new.push((*line).to_owned());
                }
                Edit::Gone(line) => old.push((*line).to_owned()),
                Edit::New(line) => new.push((*line).to_owned()),
            }
        }
        (old, new)
    }

    #[test]
    fn texts_with_nothing_in_common_are_bounded() {
        let before: Vec<String> = (0..5000).map(|n| format!("old {n}")).collect();
        let after: Vec<String> = (0..5000).map(|n| format!("new {n}")).collect();
        let lines = |texts: &[String]| texts.to_vec();
        let (b, a): (Vec<&str>, Vec<&str>) =
            (before.iter().map(String::as_str).collect(), after.iter().map(String::as_str).collect());
        assert_eq!(sides(&edits(&b, &a)), (lines(&before), lines(&after)));
    }

    proptest! {
        #[test]
        fn both_texts_are_in_it_and_no_shorter_way_is_missed(
            before in proptest::collection::vec("[abc]", 0..20),
            after in proptest::collection::vec("[abc]", 0..20),
        ) {
            let (b, a): (Vec<&str>, Vec<&str>) =
                (before.iter().map(String::as_str).collect(), after.iter().map(String::as_str).collect());
            let edits = edits(&b, &a);
            prop_assert_eq!(sides(&edits), (before.clone(), after.clone()));
            let changed = edits.iter().filter(|edit| !matches!(edit, Edit::Same(_))).count();
            // The longest common subsequence, by the textbook's table.
            let mut table = vec![vec![0usize; a.len() + 1]; b.len() + 1];
            for i in 0..b.len() {
                for j in 0..a.len() {
                    table[i + 1][j + 1] = if b[i] == a[j] { table[i][j] + 1 } else { table[i][j + 1].max(table[i + 1][j]) };
                }
            }
            prop_assert_eq!(changed, b.len() + a.len() - 2 * table[b.len()][a.len()]);
        }
    }
}
