//! The promises of `docs/promises.md`: the real program against real servers. Each promise is a test of its name.

mod damage;
mod faults;
mod mistakes;
mod position;
mod savings;
mod several;
mod shapes;
mod site;
