DROP TABLE statement_receipt;
