//! Which state comes next: in imaptest's order with imaptest's probabilities.

use super::options::{Options, Order, State};
use super::random::Random;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Stranger,
    LoggedIn,
    Selected,
}

pub struct Choice {
    order: Order,
    last: Option<State>,
}

impl Choice {
    pub fn new(order: Order) -> Self {
        Self { order, last: None }
    }

    /// The next state that fits the stage and that chance picks.
    pub fn next(&mut self, stage: Stage, options: &Options, random: &mut Random) -> State {
        if let Some(last) = self.last
            && last.fits(stage)
            && random.percent(options.chance(last).again)
        {
            return last;
        }
        let chosen = match self.order {
            Order::Random if stage == Stage::Selected => self.at_random(stage, options, random),
            Order::InTurn | Order::Random => self.in_turn(stage, options, random),
        };
        self.last = Some(chosen);
        chosen
    }

    fn in_turn(&self, stage: Stage, options: &Options, random: &mut Random) -> State {
        let first = self.last.map_or(0, |last| last as usize + 1);
        // Round after round, until one is picked; all are at zero only when nothing was wanted.
        for place in first..first + State::COUNT * 100 {
            let state = State::at(place % State::COUNT);
            if state.fits(stage) && random.percent(options.chance(state).percent) {
                return state;
            }
        }
        State::Noop
    }

    fn at_random(&self, stage: Stage, options: &Options, random: &mut Random) -> State {
        for _ in 0..State::COUNT * 100 {
            let state = State::at(random.below(State::COUNT));
            if state.fits(stage) && random.percent(options.chance(state).percent) {
                return state;
            }
        }
        State::Noop
    }
}

impl State {
    /// A session that has selected a mailbox does not log in again, nor select another time.
    fn fits(self, stage: Stage) -> bool {
        match self {
            Self::Login => stage == Stage::Stranger,
            Self::Select => stage == Stage::LoggedIn,
            Self::List | Self::Status | Self::Append | Self::Noop | Self::Logout => stage >= Stage::LoggedIn,
            _ => stage == Stage::Selected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_come_in_their_order() {
        let words = "- list=100 fetch=100 append=100 noop=0";
        let options = Options::parse(words.split(' ')).expect("the words are right");
        let (mut choice, mut random) = (Choice::new(Order::InTurn), Random::new(1, 1));
        let mut take = |stage| choice.next(stage, &options, &mut random);
        assert_eq!(take(Stage::Stranger), State::Login);
        assert_eq!(take(Stage::LoggedIn), State::List);
        assert_eq!(take(Stage::LoggedIn), State::Select);
        assert_eq!(take(Stage::Selected), State::Fetch);
        assert_eq!(take(Stage::Selected), State::Append);
        assert_eq!(take(Stage::Selected), State::Logout);
    }

    #[test]
    fn chances_are_kept() {
        let options =
            Options::parse(["-", "noop=25", "append=50,50", "logout=0"]).expect("the words are right");
        let (mut choice, mut random) = (Choice::new(Order::Random), Random::new(7, 1));
        let taken: Vec<_> =
            (0..20_000).map(|_| choice.next(Stage::Selected, &options, &mut random)).collect();
        let share = |state| taken.iter().filter(|taken| **taken == state).count() as f64 / taken.len() as f64;
        // Two thirds of the choices are APPEND, and each is repeated once more on average.
        assert!((share(State::Append) - 0.8).abs() < 0.02, "{}", share(State::Append));
        assert!((share(State::Noop) - 0.2).abs() < 0.02, "{}", share(State::Noop));
    }
}
