package sqlite

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	driver "zombiezen.com/go/sqlite"
)

// A commit costs a sync of the disk, and as much for many appends as for one. So
// appends of this process that come while one commits share the next commit: the
// first that finds nobody leading leads, which is to commit in its own goroutine;
// those that come meanwhile queue; at its end it makes the first of them the leader,
// who commits all that wait. One that is refused leaves the others: it is refused
// before it inserts anything, so that no savepoints are needed, which would copy every
// page that an append touches. An append alone pays nothing for it and waits for nobody.

const (
	mostTogether      = 256      // appends in a commit
	mostTogetherBytes = 16 << 20 // of events in a commit, and the append in which that is reached
)

// queue is the appends that wait for their turn.
type queue struct {
	mu      sync.Mutex
	leading bool // somebody leads
	waiting []*job
	last    int           // how many were in the last commit
	average time.Duration // of commits of several
}

// job is an append in the queue.
type job struct {
	*appending
	ctx  context.Context
	err  error
	lead chan struct{} // closed: it is to lead
	done chan struct{} // closed: err is how it ended

	// Under the queue's mutex.
	commits   <-chan struct{} // closed when the commit it is in begins
	abandoned bool            // who asked was told that the outcome is unknown, and is gone
	again     bool            // it is done by itself, and who asked waits for that
}

var errGone = errors.New("the goroutine that was to commit it ended")

// together appends with those who come at the same time. Up to where the commit
// begins ctx ends it, and nothing is recorded; later its end is an unknown outcome.
func (s *Store) together(ctx context.Context, a *appending) error {
	q := &s.queue
	q.mu.Lock()
	if !q.leading {
		q.leading = true
		several := q.last > 1
		q.mu.Unlock()
		if several { // those who were answered last are about to come again
			return s.leads(&job{appending: a, ctx: ctx, done: make(chan struct{})})
		}
		defer s.handOver()
		return a.alone(ctx)
	}
	j := &job{appending: a, ctx: ctx, lead: make(chan struct{}), done: make(chan struct{})}
	q.waiting = append(q.waiting, j)
	q.mu.Unlock()

	select {
	case <-j.done:
		return j.err
	case <-j.lead:
		return s.leads(j)
	case <-s.done:
	case <-ctx.Done():
	}
	q.mu.Lock()
	i := slices.Index(q.waiting, j)
	if i >= 0 { // nobody leads it, nor made it the leader
		q.waiting = slices.Delete(q.waiting, i, i+1)
		q.mu.Unlock()
		return s.usable(ctx)
	}
	commits := j.commits
	if ctx.Err() == nil {
		commits = nil // the store is being closed, which waits
	}
	q.mu.Unlock()
	// Who leads notices too, unless the commit has begun.
	select {
	case <-j.done:
		return j.err
	case <-j.lead:
		return s.leads(j)
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
		return uncertain{errors.Join(s.usable(ctx), errors.New("the commit was under way"))}
	}
}

// handOver makes the first who waits the leader, if anybody does.
func (s *Store) handOver() {
	q := &s.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.leading = false
		return
	}
	next := q.waiting[0]
	q.waiting = q.waiting[1:]
	close(next.lead)
}

// take returns what to commit with j, which leads, in the order in which it came.
func (q *queue) take(j *job, commits <-chan struct{}) []*job {
	q.mu.Lock()
	defer q.mu.Unlock()
	jobs, size := []*job{j}, 0
	for _, e := range j.events {
		size += e.Size()
	}
	for len(q.waiting) > 0 && len(jobs) < mostTogether && size < mostTogetherBytes {
		next := q.waiting[0]
		for _, e := range next.events {
			size += e.Size()
		}
		q.waiting, jobs = q.waiting[1:], append(jobs, next)
	}
	for _, j := range jobs {
		j.commits = commits
	}
	return jobs
}

// gather waits for those who were answered last, who often come again at once: an
// eighth of what a commit takes at most, and only after a commit of several.
func (q *queue) gather() {
	q.mu.Lock()
	last, limit := q.last, q.average/8
	q.mu.Unlock()
	for begin := time.Now(); last > 1 && time.Since(begin) < limit; runtime.Gosched() {
		q.mu.Lock()
		enough := len(q.waiting)+1 >= last
		q.mu.Unlock()
		if enough {
			return
		}
	}
}

// leads commits j and those who wait, and hands over.
func (s *Store) leads(j *job) error {
	q := &s.queue
	q.gather()
	commits := make(chan struct{})
	begun := sync.OnceFunc(func() { close(commits) })
	jobs := q.take(j, commits)
	defer s.handOver()
	settle := func(j *job, err error) {
		j.err = err
		q.mu.Lock()
		close(j.done)
		q.mu.Unlock()
	}
	defer func() { // also where this goroutine ends within, by a clock that panics
		for _, j := range jobs {
			settle(j, errGone)
		}
	}()
	begin, several := time.Now(), len(jobs)
	for len(jobs) > 0 {
		// Those whose context has ended are answered, and the leader goes where it is
		// one of them: somebody else commits the others.
		jobs = slices.DeleteFunc(jobs, func(j *job) bool {
			err := s.usable(j.ctx)
			if err != nil {
				settle(j, err)
			}
			return err != nil
		})
		if !slices.Contains(jobs, j) {
			q.mu.Lock()
			q.waiting = append(jobs, q.waiting...)
			q.mu.Unlock()
			jobs = nil
			return j.err
		}
		if len(jobs) == 1 {
			jobs = nil
			q.mu.Lock()
			q.last = 1
			q.mu.Unlock()
			err := j.alone(j.ctx)
			settle(j, err)
			return err
		}
		err := s.commit(jobs, begun)
		var unknown uncertain
		switch {
		case err == nil:
			for _, j := range jobs {
				settle(j, j.err)
			}
			jobs = nil
		case errors.As(err, &unknown):
			for _, j := range jobs {
				if j.err == nil {
					j.err = err // also where nothing was inserted: it may have seen what another one did
				}
				settle(j, j.err)
			}
			jobs = nil
		case errors.Is(err, errEnded):
		default:
			// One of them, or all together, is too much: each shows by itself.
			for len(jobs) > 0 {
				j := jobs[0]
				q.mu.Lock()
				gone := j.abandoned
				j.again = !gone
				q.mu.Unlock()
				if gone { // its events may be the caller's again
					settle(j, err)
				} else {
					settle(j, j.alone(j.ctx))
				}
				jobs = jobs[1:]
			}
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last = several
	if took := time.Since(begin); q.average == 0 {
		q.average = took
	} else {
		q.average += (took - q.average) / 8
	}
	return j.err
}

// errEnded says that the context of one of several appends has ended.
var errEnded = errors.New("a context ended")

// commit appends jobs in one transaction, and sets how each ended; begun is called
// when they are about to be committed. Where it returns an error that is not
// uncertain nothing is recorded.
func (s *Store) commit(jobs []*job, begun func()) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	for _, j := range jobs {
		if j.ctx.Done() != nil {
			defer context.AfterFunc(j.ctx, func() { cancel(errEnded) })()
		}
	}
	attempt := func(c *conn) (bool, error) {
		all := c.transaction(ctx)
		for _, j := range jobs {
			rows := all.rows
			j.err = j.add(all)
			if ctx.Err() != nil {
				return false, ctx.Err()
			}
			if j.err != nil && (code(j.err) != driver.ResultOK || all.rows > rows) {
				return false, j.err // half of it may be there
			}
		}
		if all.rows > 0 {
			c.appended = all
			begun()
		}
		return all.rows > 0, nil
	}
	err := s.write(ctx, "append to", attempt)
	if code(err) == driver.ResultConstraint { // the log has an ID of one of them
		for _, j := range jobs {
			j.careful = true
		}
		err = s.write(ctx, "append to", attempt)
	}
	var unknown uncertain
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) && !errors.As(err, &unknown) {
		return errEnded
	}
	return err
}
