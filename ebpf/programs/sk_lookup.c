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

INLINE int is_ours(struct place *place)
{
	int is_v4;

	if (bpf_map_lookup_elem(&places, place))
		return 1;
	is_v4 = !place->address[0] && !place->address[1] && place->address[2] == NETWORK32(0xffff);
	place->address[0] = place->address[1] = place->address[3] = 0;
	place->address[2] = is_v4 ? NETWORK32(0xffff) : 0;
	return bpf_map_lookup_elem(&places, place) != NULL;
}

SEC("sk_lookup")
int shared_listener(struct bpf_sk_lookup *ctx)
{
	struct place place = {};
	__u32 slot = IPV4, local4 = ctx->local_ip4;

	PIN(local4);
	if (ctx->protocol != IPPROTO_TCP)
		return SK_PASS;
	place.port = ctx->local_port;
	if (ctx->family == AF_INET) {
		place.address[2] = NETWORK32(0xffff);
		place.address[3] = local4;
	} else {
		place.address[0] = ctx->local_ip6[0];
		place.address[1] = ctx->local_ip6[1];
		place.address[2] = ctx->local_ip6[2];
		place.address[3] = ctx->local_ip6[3];
		slot = IPV6;
	}
	if (!is_ours(&place))
		return SK_PASS;
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
