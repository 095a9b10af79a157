// Package timing compares how long two pieces of work take, on machines that
// other work disturbs. Comes in: two functions. Goes out: the shortest time each
// was seen to take, the two run in turn, so that what slows the machine down
// meets both. A test asserts on the ratio of the two and never on a time.
//
//	few, many := timing.Until(func(few, many time.Duration) bool { return many < 4*few }, small, large)
//	require.Less(t, many, 4*few)
package timing

import "time"

// Patience is how long Until goes on measuring what does not hold.
const Patience = 15 * time.Second

// Until runs a and b in turn, five times each at least, until their shortest
// times satisfy holds or [Patience] is over. Times only get shorter the longer it
// runs, toward what the work costs undisturbed, so it waits for a quiet moment
// and cannot make slow work fast.
func Until(holds func(a, b time.Duration) bool, a, b func()) (fastestA, fastestB time.Duration) {
	fastestA, fastestB = 1<<62, 1<<62
	for n, begin := 1, time.Now(); ; n++ {
		fastestA = min(fastestA, took(a))
		fastestB = min(fastestB, took(b))
		if n >= 5 && (holds(fastestA, fastestB) || time.Since(begin) > Patience) {
			return fastestA, fastestB
		}
	}
}

func took(f func()) time.Duration {
	begin := time.Now()
	f()
	return time.Since(begin)
}
