// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
// The local hop: what one process of this node writes into a TCP connection with the gateway is queued at the other end's
// socket, and passes by the rest of TCP.
//
// local_hop_ops runs where connections of the node are established, and decides which take part: those that the gateway opens
// with a socket that it has marked, and those that come to one of its doors. Of both, both ends must be on this node. It looks at
// all others, and leaves them as they are.
//
// local_hop_msg runs where an end that has joined writes, and only there. It keeps two invariants, without which bytes arrive in
// the wrong order, or pile up without a bound:
//
//   order  a message is redirected only when the other end has read every byte that came by TCP before: what is redirected is
//          read first. The other way round nothing can go wrong.
//   bound  a message is redirected only while the other end has few bytes unread: a redirected message does not wait for a window.
//          Above that the sender goes on by TCP, whose window stops it, and stays there. The gateway does so only when the other
//          end has read everything (local_hop_room): bytes by TCP behind redirected ones raise no edge when the reader comes to
//          them, and most programs take a read that is short at that seam for the last one.
//
// The limits of all this are in docs/local-hop.md.
#include "kernel.h"
#include "shared.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct door);
	__type(value, __u32);
} doors SEC(".maps");

// Clients whose SYN has come to a door, until they are established; the oldest are forgotten.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct flow);
	__type(value, __u32);
} knocks SEC(".maps");

// The sockets that accept at a door inherit its mark.
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct mark);
} marks SEC(".maps");

// A tracing program, as local_hop_room is one, with a map whose elements are allocated as they come: before Linux 6.1 the kernel says that in a
// warning with a stack trace, as of a fault of its own. For these the elements are there from the beginning, some 8 MB.
#ifdef ALLOCATED_AHEAD
#define ENDS_FLAGS 0
#else
#define ENDS_FLAGS BPF_F_NO_PREALLOC
#endif

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, ENDS_FLAGS);
	__uint(max_entries, 65536);
	__type(key, struct flow);
	__type(value, struct end);
} ends SEC(".maps");

// The same ends, as sockets.
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 65536);
	__type(key, struct flow);
	__type(value, __u32);
} sockets SEC(".maps");

INLINE void count(__u32 what, __u64 by)
{
	__u64 *number = bpf_map_lookup_elem(&counts, &what);

	if (number)
		*number += by;
}

INLINE const struct settings *now(void)
{
	__u32 only = 0;

	return bpf_map_lookup_elem(&settings, &only);
}

INLINE void mirror(const struct flow *of, struct flow *to)
{
	__builtin_memcpy(to->local, of->remote, sizeof(to->local));
	__builtin_memcpy(to->remote, of->local, sizeof(to->remote));
	to->local_port = of->remote_port;
	to->remote_port = of->local_port;
	to->sent = of->received;
	to->received = of->sent;
}

// The addresses of a connection; its sequence numbers stay 0. False: it is neither IPv4 nor IPv6.
INLINE int addresses(struct bpf_sock_ops *ops, struct flow *flow)
{
	__u32 local4 = ops->local_ip4, remote4 = ops->remote_ip4;

	PIN(local4);
	PIN(remote4);
	if (ops->family == AF_INET6) {
		flow->local[0] = ops->local_ip6[0];
		flow->local[1] = ops->local_ip6[1];
		flow->local[2] = ops->local_ip6[2];
		flow->local[3] = ops->local_ip6[3];
		flow->remote[0] = ops->remote_ip6[0];
		flow->remote[1] = ops->remote_ip6[1];
		flow->remote[2] = ops->remote_ip6[2];
		flow->remote[3] = ops->remote_ip6[3];
	}
	// A request over IPv4 at a listener for both has the family of the listener, and no address of that family.
	if (ops->family == AF_INET || !(flow->local[0] | flow->local[1] | flow->local[2] | flow->local[3])) {
		flow->local[2] = flow->remote[2] = NETWORK32(0xffff);
		flow->local[3] = local4;
		flow->remote[3] = remote4;
	} else if (ops->family != AF_INET6) {
		return 0;
	}
	flow->local_port = ops->local_port;
	flow->remote_port = HOST32(ops->remote_port);
	return 1;
}

// A SYN has come to a listener. If that is one of our doors, and the client is on this node, its end is established next.
INLINE void knock(struct bpf_sock_ops *ops)
{
	struct flow here = {}, client = {};
	struct door door = {};
	__u32 there = 1;

	if (!addresses(ops, &here))
		return;
	door.netns = bpf_get_netns_cookie(ops);
	door.port = here.local_port;
	__builtin_memcpy(door.address, here.local, sizeof(door.address));
	if (!bpf_map_lookup_elem(&doors, &door)) {
		int is_v4 = !door.address[0] && !door.address[1] && door.address[2] == NETWORK32(0xffff);

		door.address[0] = door.address[1] = door.address[3] = 0;
		door.address[2] = is_v4 ? NETWORK32(0xffff) : 0;
		if (!bpf_map_lookup_elem(&doors, &door))
			return;
	}
	mirror(&here, &client);
	bpf_map_update_elem(&knocks, &client, &there, BPF_ANY);
}

// The client is established, and what it has knocked for is decided; whether it had. Almost no client of the node has: to look takes no
// lock, to delete does.
INLINE int forget(const struct flow *client)
{
	return bpf_map_lookup_elem(&knocks, client) && !bpf_map_delete_elem(&knocks, client);
}

// The same where nothing may join: a later client of these addresses and ports would be taken for the one that has knocked.
INLINE void pass_by(struct bpf_sock_ops *ops, int has_connected)
{
	struct flow here = {}, other = {};

	if (!addresses(ops, &here))
		return;
	mirror(&here, &other);
	forget(has_connected ? &here : &other);
}

// Takes an end in, so that its messages may be redirected, and others' to it.
INLINE void join(struct bpf_sock_ops *ops, struct tcp_sock *tcp, struct mark *mark, struct flow *flow)
{
	struct end end = { .socket = (__u64)tcp, .ours = mark->ours };
	long error = bpf_map_update_elem(&ends, flow, &end, BPF_NOEXIST);

	if (error) {
		// -EEXIST is a second connection with the same numbers throughout. It goes by TCP.
		count(error == -17 ? REFUSED : FULL, 1);
		return;
	}
	error = bpf_sock_hash_update(ops, &sockets, flow, BPF_NOEXIST);
	if (error) {
		bpf_map_delete_elem(&ends, flow);
		// -E2BIG, -ENOMEM. Anything else is said of the socket: another program redirects it, or it is no plain TCP.
		count(error == -7 || error == -12 ? FULL : REFUSED, 1);
		return;
	}
	mirror(flow, &mark->peer);
	mark->joined = 1;
	bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
	count(JOINED, 1);
}

INLINE struct tcp_sock *sequences(struct bpf_sock *sk, struct flow *flow)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	if (tcp) {
		// With data in the SYN (TCP Fast Open) these are not what the other end has: then the two never find each other.
		flow->sent = tcp->write_seq;
		flow->received = tcp->copied_seq;
	}
	return tcp;
}

// The end that has connected. It is established before the other one is.
INLINE void connected(struct bpf_sock_ops *ops, struct bpf_sock *sk)
{
	struct mark *mark = bpf_sk_storage_get(&marks, sk, NULL, 0);
	struct mark none = {};
	struct flow flow = {};
	struct tcp_sock *tcp;

	if (!addresses(ops, &flow))
		return;
	if (!mark || !mark->ours) {
		if (!forget(&flow))
			return;
		mark = bpf_sk_storage_get(&marks, sk, &none, BPF_SK_STORAGE_GET_F_CREATE);
	}
	tcp = sequences(sk, &flow);
	if (mark && tcp)
		join(ops, tcp, mark, &flow);
}

// Whether what this end answered the SYN with is what the other one had for an answer: each of the two connections draws a number at random that its
// packets carry within the host (skb->hash). Addresses, ports and first sequence numbers are the same where two network namespaces have the same
// addresses, and two clients connect from the same port within 64 ns.
INLINE int answered(const struct tcp_sock *tcp, const struct end *client)
{
	__u32 drawn = 0, heard = 0;

	return !bpf_probe_read_kernel(&drawn, sizeof(drawn), &((struct sock *)tcp)->sk_txhash) &&
	       !bpf_probe_read_kernel(&heard, sizeof(heard), &((struct sock *)client->socket)->__sk_common.skc_rxhash) && drawn == heard;
}

// The end that was connected to. The other one has joined before, if it is on this node and one of the two is ours.
INLINE void accepted(struct bpf_sock_ops *ops, struct bpf_sock *sk)
{
	struct flow flow = {}, other = {};
	struct mark *mark, none = {};
	struct tcp_sock *tcp;
	struct end *client;

	if (!addresses(ops, &flow))
		return;
	mirror(&flow, &other);
	forget(&other);
	tcp = sequences(sk, &flow);
	if (!tcp)
		return;
	mirror(&flow, &other);
	client = bpf_map_lookup_elem(&ends, &other);
	if (!client || client->way != PAST_TCP)
		return;
	if (!answered(tcp, client)) {
		count(REFUSED, 1);
		return;
	}
	mark = bpf_sk_storage_get(&marks, sk, NULL, 0);
	if (!client->ours && !(mark && mark->ours))
		return;
	if (!mark)
		mark = bpf_sk_storage_get(&marks, sk, &none, BPF_SK_STORAGE_GET_F_CREATE);
	if (mark)
		join(ops, tcp, mark, &flow);
}

// The kernel takes it out of `sockets` by itself.
INLINE void closed(struct bpf_sock *sk)
{
	struct mark *mark = bpf_sk_storage_get(&marks, sk, NULL, 0);
	struct flow flow = {};
	struct end *end;

	if (!mark || !mark->joined)
		return;
	mirror(&mark->peer, &flow);
	end = bpf_map_lookup_elem(&ends, &flow);
	if (end)
		mark->delivered = end->delivered;
	mark->joined = 0;
	bpf_map_delete_elem(&ends, &flow);
}

// Most of what it is called for is not its business, and while nothing may join, nothing is but to forget who has knocked before: it says
// so first.
SEC("sockops")
int local_hop_ops(struct bpf_sock_ops *ops)
{
	const struct settings *settings;
	struct bpf_sock *sk;
	__u32 op = ops->op;
	int enabled;

	// What the kernel takes for "there is no program".
	ops->reply = -1;
	if (op == BPF_SOCK_OPS_STATE_CB) {
		sk = ops->sk;
		if (sk && ops->args[1] == BPF_TCP_CLOSE)
			closed(sk);
		return 1;
	}
	if (op != BPF_SOCK_OPS_RWND_INIT && op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB &&
	    op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		return 1;
	settings = now();
	enabled = settings && settings->enabled;
	if (op == BPF_SOCK_OPS_RWND_INIT) {
		if (enabled && !ops->is_fullsock)
			knock(ops);
		return 1;
	}
	if (!enabled) {
		pass_by(ops, op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB);
		return 1;
	}
	sk = ops->sk;
	if (!sk)
		return 1;
	if (op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
		connected(ops, sk);
	else
		accepted(ops, sk);
	return 1;
}

// Whether reads of this socket may wait: then they may be such as wait for all that they ask for (MSG_WAITALL), or move it into a
// pipe (splice), and those get what came by TCP only.
INLINE int waits(const struct sock *sk)
{
	struct socket *socket = NULL;
	struct file *file = NULL;
	__u32 flags = 0;

	// One that has not been accepted yet has no file.
	if (bpf_probe_read_kernel(&socket, sizeof(socket), &sk->sk_socket) || !socket ||
	    bpf_probe_read_kernel(&file, sizeof(file), &socket->file) || !file ||
	    bpf_probe_read_kernel(&flags, sizeof(flags), &file->f_flags))
		return 1;
	return !(flags & O_NONBLOCK);
}

// Bytes that a socket may have unread. The kernel drops whatever comes by TCP, a reset among it, while somebody reads a socket that
// holds more than its receive buffer, half of its send buffer and 64 KiB (tcp_add_backlog). What is redirected counts there.
INLINE __u32 bound(const struct sock *sk)
{
	int buffer = 0;

	if (bpf_probe_read_kernel(&buffer, sizeof(buffer), &sk->sk_rcvbuf) || buffer < 0)
		return 0;
	return (__u32)buffer + 64 * 1024;
}

// What an end has unread; negative: it cannot be read. It may be closing on another CPU: then this is anything, and the redirect
// finds no socket.
INLINE int unread(const struct sock *sk)
{
	int bytes = 0;

	return bpf_probe_read_kernel(&bytes, sizeof(bytes), &sk->sk_backlog.rmem_alloc.counter) ? -1 : bytes;
}

// The bytes that may be redirected to an end.
INLINE __u32 room(const struct sock *sk)
{
	__u32 most = bound(sk);
	int bytes = unread(sk);

	if (bytes < 0 || (__u32)bytes > most)
		return 0;
	return most - (__u32)bytes;
}

SEC("sk_msg")
int local_hop_msg(struct sk_msg_md *msg)
{
	const struct settings *settings = now();
	const void *encrypts = NULL;
	struct bpf_sock *sk = msg->sk;
	struct tcp_sock *from, *to;
	__u32 read = 0;
	struct mark *mark;
	struct end *end;

	if (!sk || !settings)
		return SK_PASS;
	mark = bpf_sk_storage_get(&marks, sk, NULL, 0);
	if (!mark || !mark->joined)
		return SK_PASS;
	end = bpf_map_lookup_elem(&ends, &mark->peer);
	from = bpf_skc_to_tcp_sock(sk);
	if (!end || !from) {
		count(ALONE, 1);
		return SK_PASS;
	}
	if (end->way != PAST_TCP)
		return SK_PASS;
	// As for `room`: these reads may fail, or give anything.
	to = (struct tcp_sock *)end->socket;
	if (bpf_probe_read_kernel(&read, sizeof(read), &to->copied_seq) ||
	    bpf_probe_read_kernel(&encrypts, sizeof(encrypts), &to->inet_conn.icsk_ulp_ops))
		return SK_PASS;
	// With kTLS the message is not what the wire would carry.
	if (encrypts || from->inet_conn.icsk_ulp_ops) {
		end->way = BY_TCP;
		count(ENCRYPTED, 1);
		return SK_PASS;
	}
	if (read != from->write_seq) {
		count(BEHIND, 1);
		return SK_PASS;
	}
	if (waits((struct sock *)to)) {
		count(WAITS, 1);
		return SK_PASS;
	}
	if (msg->size > room((struct sock *)to)) {
		end->way = BY_TCP;
		count(UNREAD, 1);
		return SK_PASS;
	}
	// Before it is redirected: whoever takes the ends out of the maps (`withdraw`) first changes the way, and then looks whether what was
	// delivered is read. Either he sees these bytes, or they see the way.
	__sync_fetch_and_add(&end->delivered, msg->size);
	if (*(volatile __u32 *)&end->way != PAST_TCP ||
	    bpf_msg_redirect_hash(msg, &sockets, &mark->peer, BPF_F_INGRESS) != SK_PASS) {
		__sync_fetch_and_add(&end->delivered, -(__u64)msg->size);
		return SK_PASS;
	}
	count(REDIRECTED, 1);
	count(BYTES, msg->size);
	return SK_PASS;
}

// What is sent to this end goes by TCP from now on, and nothing that was redirected to it is unread, if so.
INLINE int is_read_up(struct end *end)
{
	if (end->way == READ_UP)
		return 1;
	if (unread((struct sock *)end->socket))
		return 0;
	end->way = READ_UP;
	return 1;
}

// Whether both ends may be taken out of the map of sockets: then their sockets are plain ones again, and what was redirected to them and is unread would be
// lost. `read`: bytes that the gateway has read at its own end, `own`, where the end of what the other says counts as one; the lower half of their
// number is enough to tell.
INLINE __u32 withdraw(const struct flow *own, struct end *here, struct end *there, __u32 read)
{
	__u32 by_tcp = 0;

	// Where both ends are the gateway's, the other one would not know.
	if (!here || (there && there->ours))
		return NEVER;
	// One that has no other end, as that is on another node or has closed, gains nothing.
	if (there && here->way == PAST_TCP && there->way == PAST_TCP)
		return STAYS;
	if (here->way == PAST_TCP) {
		// A message may be at the place after which it is redirected whatever the way is, and CPUs may see the two writes in another order for
		// a moment: by the next time, in another system call, neither is so.
		here->way = BY_TCP;
		return NOT_YET;
	}
	if (bpf_probe_read_kernel(&by_tcp, sizeof(by_tcp), &((struct tcp_sock *)here->socket)->copied_seq))
		return NOT_YET;
	// What it has read by TCP, and the rest of it.
	by_tcp -= own->received;
	if (read - by_tcp != (__u32)*(volatile __u64 *)&here->delivered)
		return NOT_YET;
	// To the other end nobody sends but the gateway, which is here.
	if (there && !is_read_up(there))
		return NOT_YET;
	count(WITHDRAWN, there ? 2 : 1);
	return NOW;
}

// What the gateway asks of the end of this flow, which it sends to. It runs this by hand (BPF_PROG_TEST_RUN) between its own messages to that end.
SEC("raw_tracepoint/room")
int local_hop_room(struct bpf_raw_tracepoint_args *arguments)
{
	union {
		struct flow flow;
		__u64 words[(sizeof(struct flow) + 7) / 8];
	} of;
	__u64 ask = arguments->args[sizeof(of.words) / 8], read = arguments->args[sizeof(of.words) / 8 + 1];
	struct flow own = {};
	struct end *end;
	__u32 left;
	int bytes;

	for (__u32 i = 0; i < sizeof(of.words) / 8; i++)
		of.words[i] = arguments->args[i];
	end = bpf_map_lookup_elem(&ends, &of.flow);
	if (ask == HELD) {
		// Nothing was redirected to a reader that may wait: what it has not read came by TCP.
		bytes = end && end->way == PAST_TCP && end->delivered ? unread((struct sock *)end->socket) : 0;
		return bytes < 0 ? 0 : bytes;
	}
	mirror(&of.flow, &own);
	if (ask == WITHDRAW)
		return withdraw(&own, bpf_map_lookup_elem(&ends, &own), end, read);
	if (!end) {
		// It has closed, or is not established yet: then it is not to join any more, since nobody asks for its room again.
		end = bpf_map_lookup_elem(&ends, &own);
		if (end)
			end->way = BY_TCP;
		end = bpf_map_lookup_elem(&ends, &of.flow);
		if (end)
			end->way = BY_TCP;
		return 0;
	}
	if (end->way != PAST_TCP)
		return 0;
	left = room((struct sock *)end->socket);
	if (ask == LEAVE && left && left == bound((struct sock *)end->socket)) {
		end->way = READ_UP;
		count(UNREAD, 1);
		return 0;
	}
	return left + 1;
}

char _license[] SEC("license") = "Dual BSD/GPL";
