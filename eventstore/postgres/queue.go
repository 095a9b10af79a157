package postgres

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// A commit costs a write to the server's disk and two round trips, and as much for many
// appends as for one. So appends of this process that come while one commits share the
// next commit. None waits for another's stream: those that somebody else has locked are
// taken out of it and wait by themselves. One that is refused leaves the others: it is
// refused before anything is inserted. An append alone is sent at once.

const (
	mostTogether      = 256     // appends in a commit
	mostTogetherBytes = 8 << 20 // of events in a commit, and the append in which that is reached
	lanes             = 2       // commits of several under way: one inserts while the other one is written
	mostLanes         = 6       // where those under way have taken nothing for as long as stuck: a connection may be silent
	stuck             = time.Second
	mostWaiting       = connections / 2 // appends that wait for a stream, each on a connection
	commitWait        = time.Minute     // how long the answer to a commit of several is waited for
)

// queue is the appends that wait for their turn.
type queue struct {
	mu      sync.Mutex
	lanes   int       // under way
	took    time.Time // when one of them last took something
	waiting []*job
	last    int           // how many were in the last commit
	average time.Duration // of commits of several
	patient chan struct{} // a token for each append that waits for a stream
}

// job is an append in the queue.
type job struct {
	*appending
	ctx   context.Context // of the call; see Store.call
	asked context.Context // the caller's own
	done  chan struct{}   // closed: err is how it ended
	err   error

	// Under the queue's mutex.
	commits   <-chan struct{} // closed when the commit it is in begins; nil while it waits
	abandoned bool            // who asked was told that the outcome is unknown, and is gone
	again     bool            // it is done by itself, and who asked waits for that
}

var errGone = errors.New("the goroutine that was to commit it ended")

// together appends with those who come at the same time. Up to where the commit begins
// ctx ends it, and nothing is recorded; later its end is an unknown outcome.
func (s *Store) together(ctx context.Context, a *appending) error {
	bound, leave, err := s.call(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if s.hooks.apart {
		a.patient = true
		return s.alone(bound, ctx, a, false)
	}
	q := &s.queue
	j := &job{appending: a, ctx: bound, asked: ctx, done: make(chan struct{})}
	q.mu.Lock()
	q.waiting = append(q.waiting, j)
	if q.lanes == 0 || q.lanes < lanes && q.last > 1 || q.lanes < mostLanes && time.Since(q.took) > stuck {
		q.lanes++
		go s.drive()
	}
	q.mu.Unlock()

	select {
	case <-j.done:
		return j.err
	case <-bound.Done():
	}
	q.mu.Lock()
	if i := slices.Index(q.waiting, j); i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
		q.mu.Unlock()
		return ended(bound)
	}
	commits := j.commits
	if ctx.Err() == nil {
		commits = nil // the store is being closed, which waits
	}
	q.mu.Unlock()
	// Who commits it notices too, unless the commit has begun.
	select {
	case <-j.done:
		return j.err
	case <-commits:
	}
	q.mu.Lock()
	if j.again {
		q.mu.Unlock()
		<-j.done
		return j.err
	}
	defer q.mu.Unlock()
	select {
	case <-j.done:
		return j.err
	default:
		j.abandoned = true
		return uncertain{errors.Join(ended(bound), errors.New("the commit was under way"))}
	}
}

// drive commits what waits until nothing does.
func (s *Store) drive() {
	q := &s.queue
	for {
		q.gather()
		commits := make(chan struct{})
		jobs := q.take(commits)
		if jobs == nil {
			return
		}
		began := time.Now()
		s.settle(jobs, sync.OnceFunc(func() { close(commits) }))
		q.mu.Lock()
		if q.last = len(jobs); len(jobs) > 1 {
			if took := time.Since(began); q.average == 0 {
				q.average = took
			} else {
				q.average += (took - q.average) / 8
			}
		}
		q.mu.Unlock()
	}
}

// gather waits for those who were answered last, who often come again at once: an
// eighth of what a commit takes at most, and only after a commit of several.
func (q *queue) gather() {
	q.mu.Lock()
	last, limit := q.last, q.average/8
	q.mu.Unlock()
	for begin := time.Now(); last > 1 && time.Since(begin) < limit; runtime.Gosched() {
		q.mu.Lock()
		enough := len(q.waiting) >= last
		q.mu.Unlock()
		if enough {
			return
		}
	}
}

// take returns what to commit, in the order in which it came, or nil and ends the lane.
func (q *queue) take(commits <-chan struct{}) []*job {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.lanes--
		return nil
	}
	q.took = time.Now()
	n, size := 0, 0
	for n < len(q.waiting) && n < mostTogether && size < mostTogetherBytes {
		for _, e := range q.waiting[n].events {
			size += e.Size()
		}
		q.waiting[n].commits = commits
		n++
	}
	jobs := slices.Clone(q.waiting[:n])
	clear(q.waiting[:n])
	q.waiting = q.waiting[n:]
	return jobs
}

// answer tells who asked how its append ended.
func (q *queue) answer(j *job, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	j.err = err
	close(j.done)
}

// settle commits jobs together, and answers each sooner or later.
func (s *Store) settle(jobs []*job, begun func()) {
	q := &s.queue
	for len(jobs) > 0 {
		// Those whose context has ended are answered, and the others go on.
		jobs = slices.DeleteFunc(jobs, func(j *job) bool {
			over := ended(j.ctx)
			if over != nil {
				q.answer(j, over)
			}
			return over != nil
		})
		if len(jobs) == 0 {
			return
		}
		err := s.several(jobs, begun)
		if errors.Is(err, errEnded) {
			continue
		}
		for _, j := range jobs {
			var unknown uncertain
			switch {
			case err == nil && !errors.Is(j.refused, errApart):
				q.answer(j, j.refused)
			default:
				// It is done by itself: somebody is in its way, or the commit failed.
				doubt := errors.As(err, &unknown)
				q.mu.Lock()
				gone := j.abandoned
				j.again = !gone
				q.mu.Unlock()
				if gone { // its events may be the caller's again
					q.answer(j, err)
					continue
				}
				j.careful = j.careful || doubt || code(err) == codeUnique
				go s.apart(j, doubt)
			}
		}
		return
	}
}

// apart does a job by itself.
func (s *Store) apart(j *job, doubt bool) {
	err := errGone
	defer func() { s.queue.answer(j, err) }()
	j.patient = true
	err = s.alone(j.ctx, j.asked, j.appending, doubt)
}

var (
	errEnded = errors.New("a context ended")
	errApart = errors.New("to be done by itself")
)

// several appends jobs in one transaction, whose refused says how each ended if it
// returns nil: errApart where it is to be done by itself. begun is called before they are
// committed. It fails with errEnded only before that, and where it returns an error that
// is not uncertain nothing is recorded.
func (s *Store) several(jobs []*job, begun func()) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	appends := make([]*appending, len(jobs))
	for i, j := range jobs {
		appends[i] = j.appending
		defer context.AfterFunc(j.ctx, func() { cancel(errEnded) })()
	}
	c, t, err := s.prepare(ctx, appends)
	if c != nil {
		defer release(c)
	}
	switch {
	case ctx.Err() != nil:
		return errEnded
	case err != nil || len(t.rows) == 0:
		return err
	}
	wait, stop := context.WithTimeout(context.Background(), commitWait)
	defer stop()
	return s.commit(wait, c.Conn(), t, begun)
}

// prepare does all of appends but to insert and to commit.
func (s *Store) prepare(ctx context.Context, appends []*appending) (*pgxpool.Conn, *transaction, error) {
	c, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, nil, err
	}
	t, err := s.reserve(ctx, c.Conn(), true, appends, false)
	if err == nil {
		err = s.judge(ctx, c.Conn(), t, appends)
	}
	return c, t, err
}
