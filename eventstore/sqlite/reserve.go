package sqlite

import (
	"sync"

	"modernc.org/libc"
)

// The engine, as it is built, has one limit for the caches of all connections of the
// process: the sum of what each may have. One that has all it may takes over the page
// of all that was used longest ago, mostly another one's, which then has less than it
// may and asks for new memory when it needs a page. Once the sum is reached each page
// is given back as soon as it has been looked at. The memory comes from the system in
// slabs of seven pages, and a slab of which no page is in use goes back to it, so that
// a page that is read costs two calls to the system and memory that it has to clear:
// ten times what the page costs. A connection that drops its cache, as those that read
// do after every commit, pays the same.
//
// So one page is held of some of the slabs that are in use, which keeps those. They
// are found by taking as many pages as a statement may need: what comes from a slab
// of which none is held is held, and the others go back.
const (
	reservePages = 32         // that are taken to look
	reserveAfter = 256        // pages of the file that a connection asks for between two looks
	reserveMost  = 1024       // held at most, of 8 KiB each
	slabMask     = 1<<16 - 1  // slabs are aligned; where they are not the same, more pages are held
	cachedPage   = 4096 + 512 // bytes, with what the engine adds
)

// reserve belongs to the process, as the engine's memory does.
var reserve struct {
	mu    sync.Mutex
	users int // stores that are open
	tls   *libc.TLS
	held  map[uintptr]uintptr // by slab
}

// reserveOpen is called for each store that is opened, and reserveClose when it is
// closed: the last one gives back what is held.
func reserveOpen() {
	r := &reserve
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.users++; r.users == 1 {
		r.tls, r.held = libc.NewTLS(), map[uintptr]uintptr{}
	}
}

func reserveClose() {
	r := &reserve
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.users--; r.users > 0 {
		return
	}
	for _, page := range r.held {
		libc.Xfree(r.tls, page)
	}
	r.tls.Close()
	r.tls, r.held = nil, nil
}

// hold looks for slabs to be kept, if c has asked for enough pages since it last did.
func (c *conn) hold() {
	if c.touched < reserveAfter || c.store.hooks.unreserved {
		return
	}
	c.touched = 0
	r := &reserve
	r.mu.Lock()
	defer r.mu.Unlock()
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
}
