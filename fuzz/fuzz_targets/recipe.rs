//! Recipes in TOML; one that is accepted is written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(recipe) = fieldmark_learn::Recipe::parse(text) {
        let again = recipe.to_toml().expect("a recipe can be written");
        assert!(fieldmark_learn::Recipe::parse(&again).is_ok(), "{again}");
    }
});
