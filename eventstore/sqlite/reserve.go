package sqlite

import (
	"errors"
	"fmt"
	"sync"

	"modernc.org/libc"
	driver "zombiezen.com/go/sqlite"
)

// The engine, as it is built, has one limit for the caches of all connections of the
// process: the sum of what each may have. A connection that has all it may takes over
// the page of all that was used longest ago, mostly another one's, which then has less
// than it may and asks for new memory when it needs a page. Once the sum is reached it
// keeps none: each page is given back as soon as it has been looked at, and read anew
// the next time. That makes a scan ten times slower, and takes half of what shared
// commits reach.
//
// So the sum is never let be reached. A connection that nobody uses may have a large
// cache; what that adds to the sum is room for the others. Before it can be used up it
// is taken away for a moment, which has the engine give back what is too much, from
// what was used longest ago.
//
// And memory comes from the system in slabs of seven pages, of which one that is free
// goes back to it, so that a connection that drops its cache, as those that read do
// after every commit, pays two calls to the system and memory that has to be cleared
// for every few pages. So one page is held of some of the slabs that are in use, which
// keeps those. They are found by taking as many pages as a statement may need: what
// comes from a slab of which none is held is held, and the others go back.
const (
	reserveAfter = 256        // pages of the file that a connection asks for between two looks
	reservePages = 32         // that are taken to look
	reserveMost  = 1024       // held at most, of 8 KiB each
	cachedPage   = 4096 + 512 // bytes, with what the engine adds
	slabMask     = 1<<16 - 1  // slabs are aligned; where they are not the same, more pages are held

	room      = 64 << 10              // KiB that the connection that nobody uses may have
	roomAfter = room << 10 / 4096 / 2 // pages of the file that all ask for until it is made again
)

// reserve belongs to the process, as the engine's memory does.
var reserve struct {
	mu     sync.Mutex
	users  int // stores that are open
	tls    *libc.TLS
	held   map[uintptr]uintptr // by slab
	unused *conn               // whose cache is the room
	asked  int                 // pages, since room was made
}

// reserveOpen is called for each store that is opened, and reserveClose when it is
// closed: the last one gives back what is held.
func reserveOpen() error {
	r := &reserve
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.users > 0 {
		r.users++
		return nil
	}
	dc, err := driver.OpenConn("", driver.OpenReadWrite|driver.OpenCreate) // in no file, as long as it is empty
	if err != nil {
		return engine(err)
	}
	r.unused = &conn{Conn: dc}
	if err := makeRoom(r.unused); err != nil {
		return errors.Join(err, engine(dc.Close()))
	}
	r.tls, r.held, r.users, r.asked = libc.NewTLS(), map[uintptr]uintptr{}, 1, 0
	return nil
}

func reserveClose() error {
	r := &reserve
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.users--; r.users > 0 {
		return nil
	}
	for _, page := range r.held {
		libc.Xfree(r.tls, page)
	}
	r.tls.Close()
	err := engine(r.unused.Close())
	r.tls, r.held, r.unused = nil, nil, nil
	return err
}

var settingsOfRoom = fmt.Sprintf("PRAGMA cache_size = -1; PRAGMA cache_size = -%d", room)

func makeRoom(unused *conn) error { return unused.script(settingsOfRoom) }

// hold makes room in the caches and looks for slabs to be kept, if c has asked for
// enough pages since it last did.
func (c *conn) hold() error {
	if c.touched < reserveAfter || c.store.hooks.unreserved {
		return nil
	}
	r := &reserve
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked += c.touched
	c.touched = 0
	if r.asked >= roomAfter {
		r.asked = 0
		if err := makeRoom(r.unused); err != nil {
			return err
		}
	}
	var pages [reservePages]uintptr
	for i := range pages {
		if len(r.held) == reserveMost {
			break
		}
		page := libc.Xmalloc(r.tls, cachedPage)
		if page == 0 {
			break
		}
		if slab := page &^ slabMask; r.held[slab] == 0 {
			r.held[slab] = page
		} else {
			pages[i] = page
		}
	}
	for _, page := range pages {
		if page != 0 {
			libc.Xfree(r.tls, page)
		}
	}
	return nil
}
