// What the programs and the gateway share: the keys and values of the maps. build.rs makes Rust's types out of this file, so
// it has structures of fixed-size fields, enumerations and comments, and nothing else. Padding is written out.

// One end of a connection as that end sees it. Two connections of the same addresses in different network namespaces mostly differ
// in the sequence numbers that they began with; see `answered` for those that do not.
struct flow {
	// Addresses in network byte order; an IPv4 address as ::ffff:a.b.c.d.
	__u32 local[4];
	__u32 remote[4];
	// Ports in host byte order.
	__u16 local_port;
	__u16 remote_port;
	// The first sequence numbers of what this end sends and of what it receives.
	__u32 sent;
	__u32 received;
};

// What is noted of a socket, in its own storage: it goes with the socket, and nobody can confuse it with another's.
struct mark {
	// The other end, once this one has joined.
	struct flow peer;
	// 1: the gateway's own socket, as the gateway says.
	__u32 ours;
	// 1: it is in the map that messages are redirected by. 2: the gateway has taken it out; its `end` stays until it closes, as a program on
	// another CPU may still have it in its hands.
	__u32 joined;
	// Bytes that were redirected into it; written when it closes, in `end` before.
	__u64 delivered;
};

// An end that has joined, by its `flow`.
struct end {
	// The kernel's address of its socket, to read two numbers from.
	__u64 socket;
	// Bytes that were redirected into it.
	__u64 delivered;
	// 1: the gateway's own socket.
	__u32 ours;
	// Which way what is sent to it goes: one of `way`.
	__u32 way;
};

// Which way what is sent to an end goes. A number never becomes smaller.
enum way {
	// Past TCP, while that does no harm.
	PAST_TCP,
	// By TCP for good. What was redirected before may lie unread.
	BY_TCP,
	// By TCP for good, and all that was redirected before is read.
	READ_UP,
};

// Where the gateway listens for local clients.
struct door {
	// The cookie of the network namespace.
	__u64 netns;
	// As in `flow`; zero behind the prefix of its family: any.
	__u32 address[4];
	__u32 port;
	__u32 padding;
};

// What the gateway can change at any time.
struct settings {
	// 0: no connection joins any more.
	__u32 enabled;
};

// What the gateway asks of an end. But for HELD, the answer is 0 if what is sent to it goes by TCP, and otherwise one more than the number of bytes
// that may be redirected to it.
enum ask {
	// How many bytes that are.
	ROOM,
	// The same, and that what is sent to it goes by TCP from when it has nothing unread.
	LEAVE,
	// How much the end has unread, as the kernel counts memory: the answer is that number; 0, too, once what is sent to it goes by TCP.
	HELD,
	// Whether the gateway may take both ends of the connection out of the map of sockets, one of which is its own: one of `withdrawal`. If what is sent to one
	// of them goes by TCP, what is sent to the other does from now on: to the gateway's at once, to the other when that has nothing unread.
	WITHDRAW,
};

// The answer to WITHDRAW.
enum withdrawal {
	// What is sent to either goes past TCP: there is nothing to be gained.
	STAYS,
	// Something that was redirected is unread, or on its way: ask again.
	NOT_YET,
	// Nothing is, and nothing will be.
	NOW,
	// Its own end is gone already, or both are the gateway's.
	NEVER,
};

// What is counted, one number a CPU each.
enum count {
	// Ends that have joined.
	JOINED,
	// Ends that could not: the kernel does not redirect them, or something else does already.
	REFUSED,
	// Ends that could not, because a map was full.
	FULL,
	// Messages redirected.
	REDIRECTED,
	// Their bytes.
	BYTES,
	// Messages by TCP, because the other end has not joined.
	ALONE,
	// Messages by TCP, because the other end has not read yet what came by TCP before.
	BEHIND,
	// Messages by TCP, because whoever reads them may wait in the read.
	WAITS,
	// Ends that went back to TCP for good, because the other end had too much unread.
	UNREAD,
	// Ends that went back to TCP for good, because the kernel encrypts on one of the two sockets.
	ENCRYPTED,
	// Ends that the gateway may take out.
	WITHDRAWN,
	COUNTS,
};

// An address and port whose connections the shared listener takes.
struct place {
	// As in `flow`; zero behind the prefix of its family: any.
	__u32 address[4];
	__u32 port;
};

// The listeners that the program may name. One of each family would do, as the kernel picks among all of its group: the other one is for
// when that one has closed already.
enum slot {
	IPV4,
	IPV4_SPARE,
	IPV6,
	IPV6_SPARE,
	SLOTS,
};
