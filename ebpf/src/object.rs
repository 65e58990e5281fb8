//! What is in an object, and what the kernel says of it.

use crate::LoadError;
use aya::{
    Ebpf, maps,
    programs::{Program, ProgramError},
};
use std::{
    error::Error,
    io,
    os::fd::{AsFd, OwnedFd},
};

/// The program of this name.
pub(crate) fn program<'e, P>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut P, LoadError>
where
    &'e mut P: TryFrom<&'e mut Program, Error = ProgramError>,
{
    let missing = || LoadError::Refused(format!("the object has no program {name}"));
    let program = ebpf.program_mut(name).ok_or_else(missing)?;
    program.try_into().map_err(|error: ProgramError| refused(&error))
}

/// The map of this name.
pub(crate) fn take(ebpf: &mut Ebpf, name: &str) -> Result<maps::Map, LoadError> {
    ebpf.take_map(name).ok_or_else(|| LoadError::Refused(format!("the object has no map {name}")))
}

/// The descriptor of the map of this name.
pub(crate) fn descriptor(ebpf: &mut Ebpf, name: &str) -> Result<OwnedFd, LoadError> {
    let (maps::Map::Array(data) | maps::Map::HashMap(data) | maps::Map::SkStorage(data)) = take(ebpf, name)? else {
        return Err(LoadError::Refused(format!("the map {name} is of another kind")));
    };
    data.fd().as_fd().try_clone_to_owned().map_err(|error| refused(&error))
}

/// What the kernel or aya says, as one line; EPERM wherever it is.
pub(crate) fn refused(error: &(dyn Error + 'static)) -> LoadError {
    let (mut causes, mut last) = (Vec::new(), Some(error));
    while let Some(error) = last {
        causes.push(error);
        last = error.source();
    }
    let denied = |error: &&(dyn Error + 'static)| {
        error.downcast_ref::<io::Error>().is_some_and(|error| error.raw_os_error() == Some(libc::EPERM))
    };
    if causes.iter().any(denied) {
        return LoadError::NotPermitted;
    }
    let said = causes.iter().map(ToString::to_string).collect::<Vec<_>>().join(": ");
    LoadError::Refused(shortened(&said.split_whitespace().collect::<Vec<_>>().join(" ")))
}

/// The verifier tells the program that it read; what is wrong stands at the end.
fn shortened(said: &str) -> String {
    const END: usize = 300;
    match said.char_indices().rev().nth(END) {
        Some((from, _)) if from > END => {
            let begin: String = said.chars().take(END / 2).collect();
            format!("{begin} … {}", &said[from..])
        }
        _ => said.to_owned(),
    }
}
