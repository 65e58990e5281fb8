package main

import (
	"fmt"
	"net/netip"
)

// addresses gives pods addresses from one range a family, lowest first, and knows which are in use.
type addresses struct {
	ranges []netip.Prefix
	used   map[netip.Addr]bool
	of     map[string][]string
}

func newAddresses(ranges []string) (*addresses, error) {
	parsed := make([]netip.Prefix, 0, len(ranges))
	for _, text := range ranges {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("--pod-cidr: found %q, expected a prefix such as 10.0.0.0/24: %w", text, err)
		}
		parsed = append(parsed, prefix.Masked())
	}
	return &addresses{ranges: parsed, used: map[netip.Addr]bool{}, of: map[string][]string{}}, nil
}

// keep notes what a pod already has.
func (a *addresses) keep(pod string, texts []string) {
	for _, text := range texts {
		if address, err := netip.ParseAddr(text); err == nil {
			a.used[address] = true
		}
	}
	a.of[pod] = texts
}

// take finds one free address in each range; a pod that has some keeps them. The first of a range is left to its router.
func (a *addresses) take(pod string) ([]string, error) {
	if taken := a.of[pod]; len(taken) > 0 {
		return taken, nil
	}
	taken := make([]string, 0, len(a.ranges))
	for _, prefix := range a.ranges {
		address := prefix.Addr().Next().Next()
		for a.used[address] {
			address = address.Next()
		}
		if !prefix.Contains(address) {
			return nil, fmt.Errorf("no address is left in %s", prefix)
		}
		taken = append(taken, address.String())
	}
	a.keep(pod, taken)
	return taken, nil
}

// release frees what a pod had.
func (a *addresses) release(pod string) {
	for _, text := range a.of[pod] {
		if address, err := netip.ParseAddr(text); err == nil {
			delete(a.used, address)
		}
	}
	delete(a.of, pod)
}
