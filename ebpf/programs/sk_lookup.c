// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
// The shared listener: TCP connections to the gateway's service ports are given to its few listeners, whatever these are bound to.
//
// It runs where the kernel looks for a listener, in the network namespace that it is attached to, and before the kernel looks for
// itself. Whatever is not in `places` is looked up as ever. Where it names one listener of a group (SO_REUSEPORT), the kernel picks one of the
// group, by addresses and ports of the connection, as it does without this program.
//
// The limits of all this are in docs/shared-listener.md.
#include "kernel.h"
#include "shared.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct place);
	__type(value, __u32);
} places SEC(".maps");

// By `slot`. The kernel takes one out when it is closed.
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, __u32);
} listeners SEC(".maps");

// A place as words of eight bytes. Of such a word, if the verifier knows what is in it, who has no CAP_PERFMON may not write a part: not before
// Linux 6.8 or so, and what it knows depends on the release and on what the compiler makes of narrower writes. So all are of eight bytes.
union key {
	struct place place;
	__u64 words[3];
};

INLINE __u64 word(__u32 first, __u32 second)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return first | (__u64)second << 32;
#else
	return (__u64)first << 32 | second;
#endif
}

INLINE int is_ours(__u32 first, __u32 second, __u32 third, __u32 fourth, __u32 port)
{
	union key key;
	// Or the compiler would make narrower writes of these.
	volatile __u64 *words = key.words;

	words[0] = word(first, second);
	words[1] = word(third, fourth);
	words[2] = word(port, 0);
	return bpf_map_lookup_elem(&places, &key) != NULL;
}

SEC("sk_lookup")
int shared_listener(struct bpf_sk_lookup *ctx)
{
	__u32 slot = IPV4, local4 = ctx->local_ip4, port = ctx->local_port;

	PIN(local4);
	if (ctx->protocol != IPPROTO_TCP)
		return SK_PASS;
	if (ctx->family == AF_INET) {
		if (!is_ours(0, 0, NETWORK32(0xffff), local4, port) && !is_ours(0, 0, NETWORK32(0xffff), 0, port))
			return SK_PASS;
	} else {
		if (!is_ours(ctx->local_ip6[0], ctx->local_ip6[1], ctx->local_ip6[2], ctx->local_ip6[3], port) &&
		    !is_ours(0, 0, 0, 0, port))
			return SK_PASS;
		slot = IPV6;
	}
	for (int i = 0; i < IPV6 - IPV4; i++, slot++) {
		struct bpf_sock *listener = bpf_map_lookup_elem(&listeners, &slot);
		long error;

		if (!listener)
			continue;
		error = bpf_sk_assign(ctx, listener, 0);
		bpf_sk_release(listener);
		if (!error)
			break;
	}
	return SK_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
