package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/note"
)

// database is Go's checksum database in memory, with an origin of its own: Go's code gives all of them one, and a
// witness that tells logs apart by their origin takes that one from Go alone.
type database struct {
	*sumdb.TestServer
	origin string
	signer note.Signer
}

// Signed returns the newest tree, signed.
func (d *database) Signed(ctx context.Context) ([]byte, error) {
	signed, err := d.TestServer.Signed(ctx)
	if err != nil || d.origin == "" {
		return signed, err
	}
	text, _, _ := bytes.Cut(signed, []byte("\n\n"))
	_, tree, _ := bytes.Cut(text, []byte("\n"))
	return note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%s\n", d.origin, tree)}, d.signer)
}

// serveSumdb serves a checksum database. GET /lookup/example.com/m@v1.0.N makes it grow by a record.
func serveSumdb(given options) error {
	signer, err := note.NewSigner(given.signer)
	if err != nil {
		return fmt.Errorf("the database's key: %w", err)
	}
	records := sumdb.NewTestServer(given.signer, makeRecord)
	for number := range given.records {
		version := module.Version{Path: "example.com/first", Version: fmt.Sprintf("v1.0.%d", number)}
		if _, err := records.Lookup(context.Background(), version); err != nil {
			return err
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := sumdb.NewServer(&database{records, given.origin, signer})
	for _, path := range sumdb.ServerPaths {
		http.Handle(path, server)
	}
	fmt.Printf("listening on http://%s\n", listener.Addr())
	return http.Serve(listener, nil)
}

// makeRecord returns the two lines of a module's version, as go.sum has them; the digest is that of no bytes.
func makeRecord(path, version string) ([]byte, error) {
	const digest = "h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
	return fmt.Appendf(nil, "%s %s %s\n%s %s/go.mod %s\n", path, version, digest, path, version, digest), nil
}
