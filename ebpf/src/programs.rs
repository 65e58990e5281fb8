//! The programs, in the kernel.

use crate::{
    Counts, LoadError, Noted, Room, Withdrawal, capabilities,
    command::ByHand,
    map::{Map, Write},
    object::{descriptor, program, refused, take},
    release,
    shared::{self, Door, End, Flow, Mark, Settings},
};
use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{self, MapData},
    programs::{CgroupAttachMode, RawTracePoint, SkMsg, SockOps},
};
use std::{
    fmt,
    fs::File,
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

mod door;

const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/local_hop.o"));
/// The same with all ends allocated ahead, for kernels before [`ALLOCATES`].
const OBJECT_AHEAD: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/local_hop_ahead.o"));

/// What a mark says of a socket that has joined, …
const IN: u32 = 1;
/// … and of one that was taken out.
const OUT: u32 = 2;

/// The first Linux that tells programs of sockets which network namespace they run in.
const FIRST: (u32, u32) = (5, 15);
/// The first Linux that lets tracing programs have maps whose elements are allocated as they come, and does not warn of it.
const ALLOCATES: (u32, u32) = (6, 1);

/// The programs, loaded and attached, until this is dropped.
pub struct Programs {
    settings: Map<u32, Settings>,
    counts: maps::PerCpuArray<MapData, u64>,
    doors: Map<Door, u32>,
    marks: Map<i32, Mark>,
    ends: Map<Flow, End>,
    sockets: Map<Flow, u32>,
    asks: ByHand,
    /// What detaches them.
    _loaded: Ebpf,
}

impl fmt::Debug for Programs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Programs").finish_non_exhaustive()
    }
}

impl Programs {
    /// Loads them, attaches them to `cgroup`, and lets connections join.
    ///
    /// # Errors
    /// See [`LoadError`]; the kernel is as before.
    pub fn load(cgroup: &Path) -> Result<Self, LoadError> {
        capabilities::check(&capabilities::LOCAL_HOP)?;
        release::check(FIRST)?;
        File::open("/sys/kernel/btf/vmlinux").map_err(LoadError::NoTypes)?;
        let types = Btf::from_sys_fs().map_err(|error| refused(&error))?;
        let cgroup = File::open(cgroup).map_err(|error| LoadError::Cgroup(cgroup.into(), error))?;
        let object = if release::check(ALLOCATES).is_ok() { OBJECT } else { OBJECT_AHEAD };
        let mut loader = EbpfLoader::new();
        let mut ebpf = loader.btf(Some(&types)).load(object).map_err(|error| refused(&error))?;
        let sockets = attach(&mut ebpf, &cgroup)?;
        let room: &mut RawTracePoint = program(&mut ebpf, "local_hop_room")?;
        room.load().map_err(|error| refused(&error))?;
        let room = room.fd().map_err(|error| refused(&error))?.as_fd().try_clone_to_owned();
        let programs = Self {
            settings: Map::new(descriptor(&mut ebpf, "settings")?),
            doors: Map::new(descriptor(&mut ebpf, "doors")?),
            marks: Map::new(descriptor(&mut ebpf, "marks")?),
            ends: Map::new(descriptor(&mut ebpf, "ends")?),
            sockets: Map::new(sockets),
            asks: ByHand::new(room.map_err(|error| refused(&error))?),
            counts: take(&mut ebpf, "counts")?.try_into().map_err(|error: maps::MapError| refused(&error))?,
            _loaded: ebpf,
        };
        programs.enable(true).map_err(|error| refused(&error))?;
        Ok(programs)
    }

    /// Whether connections join from now on. Those that have go on as they are.
    ///
    /// # Errors
    /// The kernel's.
    pub fn enable(&self, on: bool) -> io::Result<()> {
        self.settings.set(&0, &Settings { enabled: on.into() }, Write::Any)
    }

    /// The connection that this socket is about to make takes part, if its other end is on this node.
    ///
    /// # Errors
    /// The kernel has no memory for it: the connection can be made as it is.
    pub fn mark(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.marks.set(&socket.as_raw_fd(), &Mark { ours: 1, ..Mark::default() }, Write::Any)
    }

    /// Connections to this listener take part, if they come from this node.
    ///
    /// # Errors
    /// It is none, or the kernel has no room for more.
    pub fn open_door(&self, listener: BorrowedFd<'_>) -> io::Result<()> {
        let opened = door::of(listener)?.into_iter().try_for_each(|door| self.doors.set(&door, &1, Write::Any));
        // One that is open in part would stay so.
        opened.and_then(|()| self.mark(listener)).inspect_err(|_| drop(self.close_door(listener)))
    }

    /// Connections to `address` take part, if they come from this node: `listener` is another's address, and takes them all the same.
    ///
    /// # Errors
    /// As [`Self::open_door`].
    pub fn open_door_at(&self, listener: BorrowedFd<'_>, address: SocketAddr) -> io::Result<()> {
        let door = door::at(door::netns(listener)?, address);
        let opened = self.doors.set(&door, &1, Write::Any).and_then(|()| self.mark(listener));
        opened.inspect_err(|_| drop(self.doors.remove(&door)))
    }

    /// Connections to `address` do not take part any more. `listener` is any socket of the same network namespace.
    ///
    /// # Errors
    /// It is none.
    pub fn close_door_at(&self, listener: BorrowedFd<'_>, address: SocketAddr) -> io::Result<()> {
        self.doors.remove(&door::at(door::netns(listener)?, address)).map(drop)
    }

    /// Connections to this listener, and to others of the same address, do not take part any more.
    ///
    /// # Errors
    /// It is none.
    pub fn close_door(&self, listener: BorrowedFd<'_>) -> io::Result<()> {
        self.marks.remove(&listener.as_raw_fd())?;
        for door in door::of(listener)? {
            self.doors.remove(&door)?;
        }
        Ok(())
    }

    /// What is known of a socket.
    ///
    /// # Errors
    /// The kernel's.
    pub fn noted(&self, socket: BorrowedFd<'_>) -> io::Result<Noted> {
        let Some(mark) = self.marks.get(&socket.as_raw_fd())? else { return Ok(Noted::default()) };
        if mark.joined == IN
            && let Some(end) = self.ends.get(&mirrored(&mark.peer))?
        {
            return Ok(Noted { joined: true, delivered: end.delivered });
        }
        // It has closed, perhaps just now: then the mark says what its end said.
        let mark = self.marks.get(&socket.as_raw_fd())?.unwrap_or_default();
        Ok(Noted { joined: false, delivered: mark.delivered })
    }

    /// How much may be redirected from a socket of the gateway's to its other end. `leave`: what is written goes by TCP from when the
    /// other end has read everything.
    ///
    /// # Errors
    /// The kernel's.
    pub fn room(&self, socket: BorrowedFd<'_>, leave: bool) -> io::Result<Room> {
        match self.marks.get(&socket.as_raw_fd())? {
            Some(mark) if mark.joined == IN => {
                let ask = if leave { shared::LEAVE } else { shared::ROOM };
                Ok(match self.asks.run(&mark.peer, ask, 0)? {
                    0 => Room::ByTcp,
                    more => Room::Bytes(more - 1),
                })
            }
            _ => Ok(Room::ByTcp),
        }
    }

    /// What the other end of a socket of the gateway's has unread, in bytes of the kernel's memory: 0 where it does not take part, or
    /// goes by TCP.
    ///
    /// # Errors
    /// The kernel's.
    pub fn unread(&self, socket: BorrowedFd<'_>) -> io::Result<u32> {
        match self.marks.get(&socket.as_raw_fd())? {
            Some(mark) if mark.joined == IN => self.asks.run(&mark.peer, shared::HELD, 0),
            _ => Ok(0),
        }
    }

    /// Takes the connection of a socket of the gateway's out of the local hop for good, both of its ends, if what is sent to one of them goes by TCP
    /// already, and as soon as nothing that was redirected is unread: then both are plain sockets again. `read`: bytes that were read from this
    /// one since it was established, and one more if its end was.
    ///
    /// Call it when no other thread writes to it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn withdraw(&self, socket: BorrowedFd<'_>, read: u64) -> io::Result<Withdrawal> {
        let mark = match self.marks.get(&socket.as_raw_fd())? {
            Some(mark) if mark.joined == IN => mark,
            _ => return Ok(Withdrawal::Never),
        };
        match self.asks.run(&mark.peer, shared::WITHDRAW, read)? {
            shared::NOW => {}
            shared::STAYS => return Ok(Withdrawal::Stays),
            shared::NOT_YET => return Ok(Withdrawal::NotYet),
            _ => return Ok(Withdrawal::Never),
        }
        let own = mirrored(&mark.peer);
        let delivered = self.ends.get(&own)?.map_or(0, |end| end.delivered);
        self.marks.set(&socket.as_raw_fd(), &Mark { joined: OUT, delivered, ..mark }, Write::Any)?;
        for end in [&own, &mark.peer] {
            // Either may close meanwhile, and is not there then.
            self.sockets.remove(end)?;
        }
        Ok(Withdrawal::Done)
    }

    /// What has been counted.
    ///
    /// # Errors
    /// The kernel's.
    pub fn counts(&self) -> io::Result<Counts> {
        let sum = |what| {
            let numbers = self.counts.get(&what, 0).map_err(io::Error::other)?;
            Ok::<u64, io::Error>(numbers.iter().sum())
        };
        Ok(Counts {
            joined: sum(shared::JOINED)?,
            refused: sum(shared::REFUSED)?,
            full: sum(shared::FULL)?,
            redirected: sum(shared::REDIRECTED)?,
            bytes: sum(shared::BYTES)?,
            alone: sum(shared::ALONE)?,
            behind: sum(shared::BEHIND)?,
            waits: sum(shared::WAITS)?,
            unread: sum(shared::UNREAD)?,
            encrypted: sum(shared::ENCRYPTED)?,
            withdrawn: sum(shared::WITHDRAWN)?,
        })
    }

    /// How many ends take part now. It takes time: for tests.
    ///
    /// # Errors
    /// The kernel's.
    pub fn ends(&self) -> io::Result<usize> {
        let (mut number, mut last) = (0, self.ends.next(None)?);
        while let Some(key) = last {
            number += 1;
            last = self.ends.next(Some(&key))?;
        }
        Ok(number)
    }
}

fn mirrored(flow: &Flow) -> Flow {
    Flow {
        local: flow.remote,
        remote: flow.local,
        local_port: flow.remote_port,
        remote_port: flow.local_port,
        sent: flow.received,
        received: flow.sent,
    }
}

/// Into the kernel: what redirects first, so that whatever joins is redirected then. The map of those that have joined.
fn attach(ebpf: &mut Ebpf, cgroup: &File) -> Result<OwnedFd, LoadError> {
    // As long as the programs are not loaded, they know their maps by descriptors, which have to stay.
    let message: &mut SkMsg = program(ebpf, "local_hop_msg")?;
    message.load().map_err(|error| refused(&error))?;
    let establish: &mut SockOps = program(ebpf, "local_hop_ops")?;
    establish.load().map_err(|error| refused(&error))?;
    let sockets: maps::SockHash<MapData, Flow> =
        take(ebpf, "sockets")?.try_into().map_err(|error: maps::MapError| refused(&error))?;
    let message: &mut SkMsg = program(ebpf, "local_hop_msg")?;
    message.attach(sockets.fd()).map_err(|error| refused(&error))?;
    let establish: &mut SockOps = program(ebpf, "local_hop_ops")?;
    // A link takes no flags: several can be attached in any case.
    establish.attach(cgroup, CgroupAttachMode::Single).map_err(|error| refused(&error))?;
    sockets.fd().as_fd().try_clone_to_owned().map_err(|error| refused(&error))
}

// SAFETY: see `map::Plain`.
unsafe impl aya::Pod for Flow {}
