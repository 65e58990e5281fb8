#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| isthmus_fuzz::hello::client(input));
