//! What `pgswivel rotate` promises.

mod age;
mod fleet;
mod gate;
mod in_the_way;
mod kept_elsewhere;
mod killed;
mod password;
mod run;
mod scene;
