// Go's net/http on one processor: go-peer PORT FILE.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"time"
)

func number(r *http.Request, name string) int {
	n, err := strconv.Atoi(r.URL.Query().Get(name))
	if err != nil {
		return 1
	}
	return n
}

func main() {
	if len(os.Args) < 3 {
		log.Fatal("usage: go-peer PORT FILE")
	}
	runtime.GOMAXPROCS(1)
	hello := []byte("Hello, World!")
	fixed := make([]byte, 100*1024)
	for i := range fixed {
		fixed[i] = 'x'
	}
	mux := http.NewServeMux()
	plain := func(w http.ResponseWriter) {
		w.Header()["Server"] = []string{"go"}
		w.Header()["Content-Type"] = []string{"text/plain"}
	}
	mux.HandleFunc("/plaintext", func(w http.ResponseWriter, r *http.Request) {
		plain(w)
		w.Write(hello)
	})
	mux.HandleFunc("/sleep", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Duration(number(r, "ms")) * time.Millisecond)
		plain(w)
		w.Write(hello)
	})
	mux.HandleFunc("/fixed", func(w http.ResponseWriter, r *http.Request) {
		plain(w)
		w.Header()["Content-Length"] = []string{"102400"}
		w.Write(fixed)
	})
	stream := func(flush bool) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			plain(w)
			piece := make([]byte, number(r, "size"))
			for i := range piece {
				piece[i] = 'x'
			}
			for i := number(r, "n"); i > 0; i-- {
				w.Write(piece)
				if flush {
					w.(http.Flusher).Flush()
				}
			}
		}
	}
	mux.HandleFunc("/stream", stream(false))
	mux.HandleFunc("/stream-flushed", stream(true))
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, os.Args[2]) // by sendfile(2)
	})
	// net.Listen asks for a backlog of net.core.somaxconn and sets TCP_NODELAY on what it accepts
	listener, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", os.Args[1]))
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal((&http.Server{Handler: mux, IdleTimeout: 75 * time.Second}).Serve(listener))
}
