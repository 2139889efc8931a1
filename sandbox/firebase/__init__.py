"""A stand-in for Firebase Authentication, as far as e-mail and password go.

It speaks the REST interface of identitytoolkit.googleapis.com and securetoken.googleapis.com and
publishes its signing certificates the way Google does, so that the product verifies its tokens with
production's own code: only the addresses differ. State survives a restart.

Run it with `python -m sandbox.firebase`:

    SANDBOX_FIREBASE_PORT        where to listen on 127.0.0.1
    SANDBOX_FIREBASE_PROJECT_ID  the audience of its tokens
    SANDBOX_FIREBASE_API_KEY     the web API key; it also opens the /sandbox/ routes
    SANDBOX_FIREBASE_DATA        folder for its state
    SANDBOX_FIREBASE_ACTION_URL  page that links in mails lead to (its own when not set)

The /sandbox/ routes (`Authorization: Bearer <API key>`), beside those of sandbox.faults:

    POST   /sandbox/users                {email?, password?, uid?, displayName?, emailVerified?}
    GET    /sandbox/users                ?email=
    PATCH  /sandbox/users/{uid}          {email?, password?, displayName?, emailVerified?,
                                          disabled?}
    DELETE /sandbox/users/{uid}
    POST   /sandbox/users/{uid}/revoke   refresh tokens given so far end
    POST   /sandbox/users/{uid}/tokens   {lifetime?, authTime?}: sign in without a password
    POST   /sandbox/keys/rotate          {retire?}: sign with a new key; true withdraws the old ones
    GET    /sandbox/mails                mails sent, newest first
"""
