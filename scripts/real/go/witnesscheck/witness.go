package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// witness is a witness behind HTTP (c2sp.org/tlog-witness) that has the given keys.
type witness struct {
	client    http.Client
	url       string
	log       note.Verifier
	cosigners []note.Verifier
}

// answer is what it said.
type answer struct {
	status int
	kind   string
	body   []byte
}

func newWitness(given options) (*witness, error) {
	cosigners, err := newCosigners(given.cosigners)
	if err != nil {
		return nil, err
	}
	log, err := logVerifier(given.signer)
	if err != nil {
		return nil, err
	}
	client := http.Client{Timeout: 10 * time.Second}
	return &witness{client, strings.TrimSuffix(given.url, "/"), log, cosigners}, nil
}

// cosign asks for the log's newest checkpoint, checks the lines that come back and returns the checkpoint with them.
func (w *witness) cosign(tree *log, old int64) ([]byte, error) {
	proof, err := tree.prove(old)
	if err != nil {
		return nil, err
	}
	checkpoint, err := tree.checkpoint()
	if err != nil {
		return nil, err
	}
	got, err := w.add(old, proof, checkpoint)
	if err != nil {
		return nil, err
	}
	if got.status != http.StatusOK {
		return nil, fmt.Errorf("answered %d: %q", got.status, got.body)
	}
	cosigned := append(checkpoint, got.body...)
	_, err = openCosigned(cosigned, w.log, w.cosigners)
	return cosigned, err
}

// checkPublished asks for what monitors see; it must be the checkpoint with the very lines that were answered.
func (w *witness) checkPublished(tree *log, cosigned []byte) error {
	url := fmt.Sprintf("%s/%x/checkpoint", w.url, sha256.Sum256([]byte(tree.signer.Name())))
	response, err := w.client.Get(url)
	if err != nil {
		return err
	}
	got, err := read(response)
	if err != nil {
		return err
	}
	if got.status != http.StatusOK || !bytes.Equal(got.body, cosigned) {
		return fmt.Errorf("answered %d: %q, expected %q", got.status, got.body, cosigned)
	}
	_, err = openCosigned(got.body, w.log, w.cosigners)
	return err
}

// add sends one add-checkpoint.
func (w *witness) add(old int64, proof tlog.TreeProof, checkpoint []byte) (answer, error) {
	var body bytes.Buffer
	fmt.Fprintf(&body, "old %d\n", old)
	for _, hash := range proof {
		fmt.Fprintf(&body, "%s\n", hash)
	}
	fmt.Fprintf(&body, "\n%s", checkpoint)
	response, err := w.client.Post(w.url+"/add-checkpoint", "text/plain; charset=utf-8", &body)
	if err != nil {
		return answer{}, err
	}
	return read(response)
}

func read(response *http.Response) (answer, error) {
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return answer{response.StatusCode, response.Header.Get("Content-Type"), body}, err
}
