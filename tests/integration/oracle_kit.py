# SPDX-License-Identifier: Apache-2.0
"""What oracle.py and oracle_hub.py share: are two samples of times alike?"""
import statistics

from kit import row


def faster_share(a, b):
    """How often a random one of a is faster than a random one of b: 0.5 when they are alike (Mann-Whitney's U over n^2)."""
    order = sorted([(x, 0) for x in a] + [(x, 1) for x in b])
    seen, wins = 0, 0
    for _, which in order:
        if which == 0:
            seen += 1
        else:
            wins += seen
    return wins / (len(a) * len(b))


def judge(transport, times, bodies):
    """times: {class: [seconds]}. Two classes overlap when neither is the faster one clearly more often than by chance."""
    row(f"threat:N8 {transport}: one answer for all, but for its tracking id", len({tuple(sorted(b.items())) for b in bodies}), 1)
    names = list(times)
    for i, a in enumerate(names):
        for b in names[i + 1:]:
            share = faster_share(times[a], times[b])
            row(f"threat:N8 {transport}: {a} and {b} overlap", share, lambda v: 0.3 < v < 0.7)
            print(f"# {transport}: {a} is faster than {b} in {share:.3f} of the pairs; medians "
                  f"{statistics.median(times[a]) * 1e6:.0f} and {statistics.median(times[b]) * 1e6:.0f} us")


def turns(names, i):
    """The classes in an order that changes each time, so that what else happens on the machine meets all alike."""
    k = i % len(names)
    return names[k:] + names[:k]
