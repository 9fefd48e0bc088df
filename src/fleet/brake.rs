//! The thinking behind the brake: whether a check that fails here fails for most of the fleet, so that taking everybody
//! out would make an outage of a disturbance. Does no IO and takes `now` and chance as arguments.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::settings::Brake as Policy;

/// On how many instances a check fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Those on which it fails, this one among them.
    pub failing: u64,
    /// All of them.
    pub whole: u64,
    /// Whether some may be missing in both: the fleet has just begun to be heard of.
    pub young: bool,
}

/// Whether an instance serves, as far as a check that fails there goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// It does: too few attempts have failed in a row.
    In,
    /// It does not, unless the brake holds.
    Out,
}

/// Where the brake of one check stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is off.
    Off {
        /// Since when the share has been large enough to hold.
        above: Option<Instant>,
    },
    /// It holds.
    Holding {
        /// Since when the share has been small enough to let go.
        below: Option<Instant>,
        /// For how long it must have been: each instance has a time of its own, so that those on which the check still
        /// fails do not all leave at once.
        wait: Duration,
    },
}

impl State {
    /// It is off, and nothing asks for it.
    pub const IDLE: Self = Self::Off { above: None };

    /// The state after one more count. It holds at once for who is in service, so that nobody leaves; who has left comes back
    /// only when most have failed for a third of `hold`: a moment in which everybody's dependency is gone says nothing about
    /// an instance that had failed before. It lets go when few have failed for a third of `hold` up to the whole, by
    /// `chance`, which is from 0 to 1.
    #[must_use]
    pub fn after(self, count: Count, position: Position, policy: &Policy, now: Instant, chance: f64) -> Self {
        let Some(panic_threshold) = policy.panic_threshold else { return Self::IDLE };
        let share = count.share();
        match self {
            _ if count.whole < u64::from(policy.min_instances) => Self::IDLE,
            // Neither for nor against: what is said of it expires by itself.
            state if count.young => state,
            Self::Off { above } if share > panic_threshold => {
                let above = above.unwrap_or(now);
                let since = now.saturating_duration_since(above);
                if position == Position::Out && since < policy.hold / 3 {
                    return Self::Off { above: Some(above) };
                }
                Self::Holding { below: None, wait: policy.hold.mul_f64((1.0 + 2.0 * chance.clamp(0.0, 1.0)) / 3.0) }
            }
            Self::Off { .. } => Self::IDLE,
            Self::Holding { wait, .. } if share > policy.release_threshold => Self::Holding { below: None, wait },
            Self::Holding { below, wait } => {
                let below = below.unwrap_or(now);
                if now.saturating_duration_since(below) >= wait {
                    Self::IDLE
                } else {
                    Self::Holding { below: Some(below), wait }
                }
            }
        }
    }
}

impl State {
    /// The state with which a check begins to fail again at `count`, which had recovered in between: what held for all
    /// holds on if they are still about as many, and is nothing to one instance's own fault.
    #[must_use]
    pub fn again(self, count: Count, policy: &Policy) -> Self {
        match self {
            Self::Holding { .. } if count.share() <= policy.release_threshold => Self::IDLE,
            state => state,
        }
    }
}

impl Count {
    /// The share of instances on which it fails.
    pub fn share(&self) -> f64 {
        if self.whole == 0 { 0.0 } else { self.failing as f64 / self.whole as f64 }
    }
}

/// Whether a check fails on many, as far as a ruling knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crowd {
    /// On few.
    Few,
    /// On many, or nobody knows.
    Many,
}

impl Ruling {
    /// Whether it is of an outage of many: of more than this one and of more than half, whether or not the brake holds.
    pub fn crowd(&self) -> Crowd {
        match self {
            Self::Off(Why::Few(count) | Why::Early(count) | Why::Small(count) | Why::Disabled(Some(count)))
                if count.failing < 2 || count.share() <= 0.5 =>
            {
                Crowd::Few
            }
            _ => Crowd::Many,
        }
    }
}

/// `7 of 8 instances`.
impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} instances", self.failing, self.whole)
    }
}

/// What the brake says of a check that fails here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// It counts as degraded, unless this is older than `until`: nothing is braked by silence.
    Holds {
        /// On how many it fails.
        count: Count,
        /// The last instant at which this is believed.
        until: Instant,
    },
    /// It held when Redis was last heard of, which is a while ago: an outage of Redis does not add to that of the check.
    Kept {
        /// On how many it failed then.
        count: Count,
        /// The last instant at which this is believed.
        until: Instant,
    },
    /// The check's own class applies: it fails for too few, or nobody knows for how many.
    Off(Why),
}

/// Why the brake does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It fails on too few.
    Few(Count),
    /// It fails on many, and has not for long enough to bring back who had left.
    Early(Count),
    /// The fleet is smaller than `min_instances`.
    Small(Count),
    /// `panic_threshold` is off, whether or not it is known on how many it fails.
    Disabled(Option<Count>),
    /// The fleet has just begun to be heard of.
    Young,
    /// Redis does not tell.
    Unasked,
    /// Redis answers, and takes no heartbeats.
    Refused,
    /// Redis answers, and is a replica that takes no writes.
    ReadOnly,
}

impl Ruling {
    /// Of a state that has come from `count`, which is believed until `until`.
    pub fn of(state: State, count: Count, policy: &Policy, until: Instant) -> Self {
        match state {
            State::Holding { .. } => Self::Holds { count, until },
            State::Off { .. } if policy.panic_threshold.is_none() => {
                Self::Off(Why::Disabled((!count.young).then_some(count)))
            }
            State::Off { .. } if count.young => Self::Off(Why::Young),
            State::Off { .. } if count.whole < u64::from(policy.min_instances) => Self::Off(Why::Small(count)),
            State::Off { above: None } => Self::Off(Why::Few(count)),
            State::Off { above: Some(_) } => Self::Off(Why::Early(count)),
        }
    }

    /// Without a count to go by: what keeps one away says nothing where none would count.
    pub fn uncounted(why: Why, policy: &Policy) -> Self {
        Self::Off(if policy.panic_threshold.is_none() { Why::Disabled(None) } else { why })
    }

    /// Whether it holds at `now`.
    pub fn holds(&self, now: Instant) -> bool {
        matches!(self, Self::Holds { until, .. } | Self::Kept { until, .. } if now <= *until)
    }

    /// For the body of `/readyz`.
    pub fn says(&self, check: &str) -> String {
        match self {
            Self::Holds { count, .. } => format!("{check} failing on {count}"),
            Self::Kept { count, .. } => format!("{check} failing on {count} when last told"),
            Self::Off(Why::Few(count)) => format!("off, {check} failing on {count}"),
            Self::Off(Why::Early(count)) => format!("off, {check} failing on {count} only just now"),
            Self::Off(Why::Small(count)) => format!("off, {check} failing on {count}, too few to tell"),
            Self::Off(Why::Disabled(Some(count))) => format!("off by panic_threshold, {check} failing on {count}"),
            Self::Off(Why::Disabled(None)) => format!("off by panic_threshold, how many fail {check} is not known"),
            Self::Off(Why::Young) => format!("off, how many fail {check} is not known yet"),
            Self::Off(Why::Unasked) => format!("off, redis cannot be asked how many fail {check}"),
            Self::Off(Why::Refused) => format!("off, redis takes no heartbeats: how many fail {check} is not known"),
            Self::Off(Why::ReadOnly) => {
                format!("off, redis is a read-only replica: how many fail {check} is not known")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn count(failing: u64, whole: u64) -> Count {
        Count { failing, whole, young: false }
    }

    /// Counts, one each second → `h` where the brake holds.
    fn check(policy: &Policy, counts: &[Count], expected: &str) {
        check_at(Position::In, policy, counts, expected);
    }

    fn check_at(position: Position, policy: &Policy, counts: &[Count], expected: &str) {
        let (mut state, start) = (State::IDLE, Instant::now());
        let mut said = String::new();
        for (second, count) in counts.iter().enumerate() {
            let now = start + Duration::from_secs(second as u64);
            state = state.after(*count, position, policy, now, 0.0);
            said.push(if holding(state) { 'h' } else { '.' });
        }
        assert_eq!(said, expected, "{position:?} {counts:?}");
    }

    fn holding(state: State) -> bool {
        matches!(state, State::Holding { .. })
    }

    fn policy() -> Policy {
        // A third of it without chance: 3 s.
        Policy { hold: Duration::from_secs(9), ..Policy::default() }
    }

    #[test]
    fn it_holds_from_above_the_threshold_and_lets_go_once_few_have_failed_for_a_while() {
        let of = |failing: &[u64]| failing.iter().map(|failing| count(*failing, 8)).collect::<Vec<_>>();
        check(&policy(), &of(&[1, 4, 5, 8]), "..hh");
        check(&policy(), &of(&[5, 4, 3, 3]), "hhhh");
        check(&policy(), &of(&[5, 2, 2, 2, 2, 2]), "hhhh..");
        check(&policy(), &of(&[5, 2, 2, 3, 2, 2, 2, 2]), "hhhhhhh.");
        // At the threshold and around it nothing swings.
        check(&policy(), &of(&[4, 5, 4, 5, 4, 5, 4, 5, 4]), ".hhhhhhhh");
        check(&policy(), &of(&[4, 4, 4, 4]), "....");
    }

    #[test]
    fn who_has_left_comes_back_only_when_most_have_failed_for_a_while() {
        let of = |failing: &[u64]| failing.iter().map(|failing| count(*failing, 8)).collect::<Vec<_>>();
        let policy = policy();
        check_at(Position::Out, &policy, &of(&[1, 8, 8, 8, 8, 8]), "....hh");
        check_at(Position::Out, &policy, &of(&[1, 8, 8, 1, 8, 8, 1]), ".......");
        check_at(Position::In, &policy, &of(&[1, 8, 8, 1, 1]), ".hhhh");
    }

    #[test]
    fn too_few_instances_and_a_fleet_that_nobody_knows_yet_are_not_braked() {
        check(&policy(), &[count(1, 1), count(2, 2), count(1, 1)], ".h.");
        let three = Policy { min_instances: 3, ..policy() };
        check(&three, &[count(2, 2), count(3, 3), count(2, 2)], ".h.");
        let young = Count { young: true, ..count(2, 2) };
        check(&policy(), &[young, young, count(2, 8)], "...");
        let off = Policy { panic_threshold: None, ..policy() };
        check(&off, &[count(8, 8)], ".");
        check(&policy(), &[count(1, 0)], ".");
    }

    #[test]
    fn what_it_says_names_the_numbers_and_expires() {
        let (now, good) = (Instant::now(), Duration::from_secs(10));
        let holding = State::Holding { below: None, wait: good };
        let ruling = |state, count| Ruling::of(state, count, &policy(), now + good);
        let holds = ruling(holding, count(7, 8));
        assert_eq!(holds.says("db"), "db failing on 7 of 8 instances");
        assert!(holds.holds(now + good) && !holds.holds(now + good + Duration::from_millis(1)));
        let said = |state, count| ruling(state, count).says("db");
        assert_eq!(said(State::IDLE, count(1, 8)), "off, db failing on 1 of 8 instances");
        let early = State::Off { above: Some(now) };
        assert_eq!(said(early, count(8, 8)), "off, db failing on 8 of 8 instances only just now");
        assert_eq!(said(State::IDLE, count(1, 1)), "off, db failing on 1 of 1 instances, too few to tell");
        let young = Count { young: true, ..count(2, 2) };
        assert_eq!(said(State::IDLE, young), "off, how many fail db is not known yet");
        let crowd = |why| Ruling::Off(why).crowd();
        assert_eq!(
            [Why::Few(count(1, 2)), Why::Early(count(2, 4)), Why::Small(count(1, 1))].map(crowd),
            [Crowd::Few; 3]
        );
        assert_eq!([Why::Early(count(5, 8)), Why::Small(count(4, 4)), Why::Unasked].map(crowd), [Crowd::Many; 3]);
        let off = Policy { panic_threshold: None, ..policy() };
        let disabled = Ruling::of(State::IDLE, count(3, 3), &off, now).says("db");
        assert_eq!(disabled, "off by panic_threshold, db failing on 3 of 3 instances");
        let unknown = "off by panic_threshold, how many fail db is not known";
        assert_eq!(Ruling::of(State::IDLE, young, &off, now).says("db"), unknown);
        for why in [Why::Unasked, Why::Refused, Why::ReadOnly, Why::Young] {
            assert_eq!(Ruling::uncounted(why, &off).says("db"), unknown);
            assert_eq!(Ruling::uncounted(why, &policy()), Ruling::Off(why));
        }
        let kept = Ruling::Kept { count: count(7, 8), until: now };
        assert_eq!(
            (kept.says("db").as_str(), kept.holds(now)),
            ("db failing on 7 of 8 instances when last told", true)
        );
    }

    #[test]
    fn a_fault_of_ones_own_after_the_outage_of_all_is_not_held() {
        let holding = State::Holding { below: None, wait: Duration::from_secs(9) };
        assert_eq!(holding.again(count(1, 8), &policy()), State::IDLE);
        assert!(
            holding.again(count(4, 8), &policy()) == holding
                && State::IDLE.again(count(8, 8), &policy()) == State::IDLE
        );
    }

    #[test]
    fn instances_do_not_all_let_go_at_once() {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let policy = Policy { hold: Duration::from_secs(30), ..Policy::default() };
        let let_go = |chance: f64| {
            let mut state = State::IDLE.after(count(8, 8), Position::In, &policy, start, chance);
            (1..100).find(|second| {
                state = state.after(count(2, 8), Position::Out, &policy, at(*second), 0.0);
                !holding(state)
            })
        };
        let moments: Vec<u64> = (0..20).map(|n| let_go(f64::from(n) / 20.0).expect("it lets go")).collect();
        assert_eq!(moments, (11..31).collect::<Vec<_>>(), "and the last of them within `hold`");
    }

    proptest! {
        /// It never begins to hold at or below the threshold, and never lets go above that of release.
        #[test]
        fn it_turns_only_beyond_its_thresholds(counts in proptest::collection::vec((0..20_u64, 0..20_u64), 0..60)) {
            let (mut state, start) = (State::IDLE, Instant::now());
            for (second, (failing, whole)) in counts.into_iter().enumerate() {
                let count = count(failing.min(whole), whole);
                let next = state.after(count, Position::In, &policy(), start + Duration::from_secs(second as u64), 0.5);
                if !holding(state) && holding(next) {
                    prop_assert!(count.share() > 0.5 && whole >= 2);
                }
                if holding(state) && !holding(next) {
                    prop_assert!(count.share() <= 0.3 || whole < 2);
                }
                state = next;
            }
        }
    }
}
