// Tokens as nats-io/jwt makes them: an operator, an account with a scoped key for signing, users of both kinds.
// Prints them as JSON.
package main

import (
	"encoding/json"
	"os"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

func key(kp nkeys.KeyPair, err error) (nkeys.KeyPair, string) {
	must(err)
	public, err := kp.PublicKey()
	must(err)
	return kp, public
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func creds(token string, kp nkeys.KeyPair) string {
	seed, err := kp.Seed()
	must(err)
	out, err := jwt.FormatUserConfig(token, seed)
	must(err)
	return string(out)
}

func main() {
	operator, operatorID := key(nkeys.CreateOperator())
	signer, signerID := key(nkeys.CreateOperator())
	account, accountID := key(nkeys.CreateAccount())
	scoped, scopedID := key(nkeys.CreateAccount())
	plain, plainID := key(nkeys.CreateUser())
	worker, workerID := key(nkeys.CreateUser())

	o := jwt.NewOperatorClaims(operatorID)
	o.Name = "operator"
	o.SigningKeys.Add(signerID)
	operatorToken, err := o.Encode(operator)
	must(err)

	a := jwt.NewAccountClaims(accountID)
	a.Name = "sales"
	scope := jwt.NewUserScope()
	scope.Key = scopedID
	scope.Role = "worker"
	scope.Template.Pub.Allow.Add("jobs.{{name()}}.>", "tag.{{tag(team)}}.x")
	scope.Template.Sub.Allow.Add("_INBOX.>", "jobs.{{subject()}}.*")
	a.SigningKeys.AddScopedSigner(scope)
	accountToken, err := a.Encode(signer)
	must(err)

	u := jwt.NewUserClaims(plainID)
	u.Name = "plain"
	u.Expires = time.Now().Add(time.Hour).Unix()
	u.Limits.Subs = 3
	u.Limits.Payload = 100
	u.Pub.Deny.Add("secret.>")
	plainToken, err := u.Encode(account)
	must(err)

	w := jwt.NewUserClaims(workerID)
	w.Name = "eve"
	w.IssuerAccount = accountID
	w.Tags.Add("team:red", "team:blue")
	w.UserPermissionLimits = jwt.UserPermissionLimits{}
	workerToken, err := w.Encode(scoped)
	must(err)

	must(json.NewEncoder(os.Stdout).Encode(map[string]string{
		"operator": operatorToken, "account": accountID, "account_token": accountToken,
		"plain": creds(plainToken, plain), "worker": creds(workerToken, worker), "worker_id": workerID,
	}))
}
