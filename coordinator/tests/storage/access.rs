//! Tokens, and the record of who changed what.

use std::time::Duration;

use fleetune_coordinator::storage::{Deed, NewToken, StoreError, StudyUpdate, TokenRecord, audit};
use fleetune_core::{Role, StudyState};

use super::harness::{Db, at, new_study};

fn token(name: &str, byte: u8) -> NewToken {
    NewToken {
        name: name.to_owned(),
        role: Role::Client,
        hash: [byte; 32],
        created_by: "boss".to_owned(),
        expires_at: None,
    }
}

fn deed(actor: &str, subject: &str) -> Deed {
    Deed {
        actor: actor.to_owned(),
        role: Some(Role::Admin),
        peer: "10.0.0.1".to_owned(),
        action: "Something".to_owned(),
        subject: subject.to_owned(),
    }
}

async fn subjects(db: &Db) -> Vec<String> {
    let deeds = db.store.audit(i64::MAX, None, 100).await.unwrap();
    deeds.into_iter().map(|record| record.deed.subject).collect()
}

pub async fn a_token_is_created_once_and_revoked_once(db: Db) {
    let new = NewToken { expires_at: Some(at(9)), ..token("a", 1) };
    let first = db.store.create_token(new.clone(), at(1)).await.unwrap();
    let expected = TokenRecord {
        id: first.id,
        name: "a".to_owned(),
        role: Role::Client,
        hash: [1; 32],
        created_at: at(1),
        created_by: "boss".to_owned(),
        expires_at: Some(at(9)),
        last_used_at: None,
        revoked_at: None,
    };
    assert_eq!(first, expected);
    assert_eq!(db.store.create_token(new, at(2)).await.unwrap(), first);
    assert!(first.is_in_force(at(8)) && !first.is_in_force(at(9)));
    let revoked = db.store.revoke_token("a", at(3)).await.unwrap();
    assert_eq!((revoked.revoked_at, revoked.is_in_force(at(3))), (Some(at(3)), false));
    assert_eq!(db.store.revoke_token(&first.id.to_string(), at(4)).await.unwrap(), revoked);
    assert_eq!(db.store.tokens(0, 10).await.unwrap(), [revoked]);
    let unknown = db.store.revoke_token("b", at(5)).await.unwrap_err();
    assert!(matches!(unknown, StoreError::TokenNotFound(name) if name == "b"));
}

pub async fn names_are_unique_among_tokens_in_force(db: Db) {
    let first = db.store.create_token(token("a", 1), at(1)).await.unwrap();
    let taken = db.store.create_token(token("a", 2), at(2)).await.unwrap_err();
    assert!(matches!(taken, StoreError::TokenNameTaken(name) if name == "a"));
    // The same secret cannot be two tokens.
    assert!(db.store.create_token(token("b", 1), at(2)).await.is_err());
    db.store.revoke_token("a", at(3)).await.unwrap();
    let second = db.store.create_token(token("a", 2), at(4)).await.unwrap();
    assert!(second.id > first.id);
    // The name means the one in force now.
    assert_eq!(db.store.revoke_token("a", at(5)).await.unwrap().id, second.id);
    let page = db.store.tokens(first.id, 10).await.unwrap();
    assert_eq!(page.iter().map(|token| token.id).collect::<Vec<_>>(), [second.id]);
}

pub async fn the_use_of_a_token_never_goes_back(db: Db) {
    let id = db.store.create_token(token("a", 1), at(1)).await.unwrap().id;
    for (used, shown) in [(5, 5), (3, 5), (8, 8)] {
        db.store.note_uses(vec![(id, at(used)), (id + 1, at(used))]).await.unwrap();
        assert_eq!(db.store.tokens(0, 1).await.unwrap()[0].last_used_at, Some(at(shown)), "{used}");
    }
}

pub async fn a_deed_is_stored_with_its_change(db: Db) {
    let new = || new_study("a", StudyState::Active);
    let study = audit::as_deed(deed("ann", "study a"), db.store.create_study(new(), at(1))).await.unwrap();
    let found = db.store.audit(i64::MAX, None, 100).await.unwrap();
    assert_eq!(found.iter().map(|record| record.deed.clone()).collect::<Vec<_>>(), [deed("ann", "study a")]);
    // A repeat changes nothing; what is refused changes nothing; outside of a call nobody did it.
    audit::as_deed(deed("bob", "study a"), db.store.create_study(new(), at(2))).await.unwrap();
    let other = NewToken { name: String::new(), ..token("x", 1) };
    let mut taken = new();
    "another".clone_into(&mut taken.request_id);
    audit::as_deed(deed("cyd", "study a"), db.store.create_study(taken, at(3))).await.unwrap_err();
    db.store.create_token(other, at(4)).await.unwrap();
    assert_eq!(subjects(&db).await, ["study a"]);
    // Many changes of one call are one deed, and its subject may become known on the way.
    audit::as_deed(deed("dan", ""), async {
        audit::about("study", "a");
        for state in [StudyState::Paused, StudyState::Active] {
            let update = StudyUpdate { state: Some((state, String::new())), ..StudyUpdate::default() };
            db.store.update_study(study.id, update, at(5)).await.unwrap();
        }
    })
    .await;
    let found = db.store.audit(i64::MAX, Some("study a"), 100).await.unwrap();
    assert_eq!(found.iter().map(|record| record.deed.actor.as_str()).collect::<Vec<_>>(), ["dan", "ann"]);
    let earlier = db.store.audit(found[0].id, Some("study a"), 100).await.unwrap();
    assert_eq!(earlier, found[1..]);
    assert_eq!(db.store.audit(i64::MAX, Some("study b"), 100).await.unwrap(), []);
}

pub async fn old_deeds_are_forgotten_by_age_and_number(db: Db) {
    for name in ["a", "b", "c", "d"] {
        let deed = deed("ann", &format!("study {name}"));
        audit::as_deed(deed, db.store.create_study(new_study(name, StudyState::Active), at(1))).await.unwrap();
    }
    let times: Vec<_> = db.store.audit(i64::MAX, None, 10).await.unwrap().iter().map(|record| record.at).collect();
    assert_eq!(db.store.trim_audit(times[3], 10).await.unwrap(), 0);
    assert_eq!(db.store.trim_audit(times[3], 3).await.unwrap(), 1);
    assert_eq!(subjects(&db).await, ["study d", "study c", "study b"]);
    assert_eq!(db.store.trim_audit(times[0].plus(Duration::from_micros(1)), 10).await.unwrap(), 3);
    assert_eq!(subjects(&db).await, Vec::<String>::new());
}
