// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
// What the programs need of the kernel, no more: the helpers that they call, and the fields that they read. Where a field lies
// is found out from the running kernel's BTF when the programs are loaded (preserve_access_index), so the order here means nothing.
#pragma once
#include <linux/bpf.h>

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define __uint(name, value) int (*name)[value]
#define __type(name, value) typeof(value) *name
#define NULL ((void *)0)

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define O_NONBLOCK 04000

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define HOST32(value) __builtin_bswap32(value)
#else
#define HOST32(value) (value)
#endif
#define NETWORK32(value) HOST32(value)

// The compiler may make one load out of two of the context, at an address that it computes; the verifier refuses that.
#define PIN(value) asm volatile("" : "+r"(value))

#define HELPER(result, name, ...) \
	static result (*const bpf_##name)(__VA_ARGS__) __attribute__((unused)) = (void *)BPF_FUNC_##name

struct inet_connection_sock {
	const void *icsk_ulp_ops;
} __attribute__((preserve_access_index));

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u32 copied_seq;
	__u32 write_seq;
} __attribute__((preserve_access_index));

typedef struct {
	int counter;
} atomic_t;

struct file {
	unsigned int f_flags;
} __attribute__((preserve_access_index));

struct socket {
	struct file *file;
} __attribute__((preserve_access_index));

struct sock_common {
	__u32 skc_rxhash;
} __attribute__((preserve_access_index));

struct sock {
	struct sock_common __sk_common;
	struct {
		atomic_t rmem_alloc;
	} sk_backlog;
	struct socket *sk_socket;
	int sk_rcvbuf;
	__u32 sk_txhash;
} __attribute__((preserve_access_index));

HELPER(void *, map_lookup_elem, void *map, const void *key);
HELPER(long, map_update_elem, void *map, const void *key, const void *value, __u64 flags);
HELPER(long, map_delete_elem, void *map, const void *key);
HELPER(long, probe_read_kernel, void *to, __u32 size, const void *from);
HELPER(long, sock_hash_update, struct bpf_sock_ops *ops, void *map, void *key, __u64 flags);
HELPER(long, sock_ops_cb_flags_set, struct bpf_sock_ops *ops, int flags);
HELPER(long, msg_redirect_hash, struct sk_msg_md *msg, void *map, void *key, __u64 flags);
HELPER(void *, sk_storage_get, void *map, void *sk, void *value, __u64 flags);
HELPER(struct tcp_sock *, skc_to_tcp_sock, void *sk);
HELPER(__u64, get_netns_cookie, void *ctx);
HELPER(__u32, get_smp_processor_id, void);
HELPER(long, sk_assign, void *ctx, void *sk, __u64 flags);
HELPER(long, sk_release, void *sk);
